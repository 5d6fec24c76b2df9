"""What the page says, and what its log says, while the API server does not answer."""

from pathlib import Path

import aiohttp
import structlog

from deploy.dev.page.stand import EVERYWHERE, People, Stand, open_stand
from services.audit_writer.cluster import StoredAudit
from shared.errors import Unavailable


class Silent(Stand):
    """Its API server knows people, and gives no Audit."""

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        raise Unavailable("kubernetes", f"no answer about {namespace}/{name}")


async def test_an_audit_that_cannot_be_read_is_told_of_in_the_log(tmp_path: Path) -> None:
    stand = Silent(People({"anna": {EVERYWHERE}}))
    headers = {"Authorization": "Bearer anna", "Accept": "text/html"}
    with structlog.testing.capture_logs() as lines:
        async with open_stand(stand, tmp_path), aiohttp.ClientSession(headers=headers) as session:
            url = f"{stand.url}/audits/shop/replicaset-web-1"
            async with session.get(url, ssl=False) as answer:
                said = await answer.text()
    assert answer.status == 503
    assert "log says why" in said
    assert "no answer about" not in said
    [line] = [each for each in lines if each["event"] == "page_audit_not_read"]
    assert (line["namespace"], line["audit"]) == ("shop", "replicaset-web-1")
    assert "no answer about shop/replicaset-web-1" in line["error"]
