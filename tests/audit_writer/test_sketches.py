"""Audits in outline: all pages, what is broken told from what is missing, a proxy's page from an empty list."""

import msgspec
import pytest

from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.sketches import Sketch, all_audits
from shared.cluster import Cluster
from shared.crds import Audit
from shared.errors import Unavailable
from tests.audit_writer.decisions import DIGEST, decision

AUDIT = audit_of(decision(), Standing(name="replicaset-web"))


class Pages(Cluster):
    """Gives one page after another."""

    def __init__(self, *pages: bytes) -> None:
        self.pages = pages

    async def request(self, method: str, path: str, **rest: object) -> bytes:
        assert (method, path) == ("GET", "/apis/security.banzaicloud.com/v1alpha1/audits")
        query = rest["query"]
        assert isinstance(query, dict)
        return self.pages[int(query.get("continue", 0))]


def page(*items: object, then: str = "") -> bytes:
    return msgspec.json.encode({"items": items, "metadata": {"continue": then}})


async def read(*pages: bytes) -> dict[tuple[str, str], Sketch | None]:
    return {where: sketch async for where, sketch in all_audits(Pages(*pages))}


def named(name: str) -> Audit:
    return msgspec.structs.replace(AUDIT, metadata=msgspec.structs.replace(AUDIT.metadata, name=name))


async def test_all_pages_in_outline() -> None:
    found = await read(page(named("a"), named("b"), then="1"), page(named("c")))
    assert set(found) == {("shop", name) for name in "abc"}
    sketch = found["shop", "a"]
    assert sketch
    assert (sketch.status.decision.at, sketch.status.decision.attempt) == (AUDIT.status.decision.at, False)
    assert [(each.container, each.image, each.digest, each.list_digest) for each in sketch.spec.images] == [
        ("web", "nginx:1.27", DIGEST, DIGEST)
    ]
    assert [each.id for each in sketch.status.transitions] == [AUDIT.status.transitions[0].id]


async def test_one_that_somebody_broke_is_there_all_the_same() -> None:
    broken = {"metadata": {"name": "b", "namespace": "shop"}, "status": {"state": "nonsense"}}
    found = await read(page(named("a"), broken))
    assert (found["shop", "b"], found["shop", "a"] is not None) == (None, True)


@pytest.mark.parametrize("answer", [b"<html>", b"\xff", b"{}", page({"metadata": {}})])
async def test_a_page_that_is_none_is_no_empty_list(answer: bytes) -> None:
    with pytest.raises(Unavailable):
        await read(answer)
