"""The page on its real port, with what it reads in memory: the shelf, the trend, and people whose tokens are known.

Routes, templates, rules, TLS and streams are the service's own; only the API server's answers are made up.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trustme
from prometheus_client import CollectorRegistry

from services.audit_writer.cluster import StoredAudit
from services.audit_writer.page import server
from services.audit_writer.page.access import Access
from services.audit_writer.page.entrance import Entrance
from services.audit_writer.page.metrics import PageMetrics
from services.audit_writer.page.records import SeenAudit, Shelf
from services.audit_writer.page.reviews import Person
from services.audit_writer.page.sheets import Sheets
from services.audit_writer.page.shows import Shows
from services.audit_writer.page.trend import Trend
from shared.certificates import CertificateFiles
from shared.crds import Audit
from shared.metrics import CommonMetrics
from shared.settings import Listen
from shared.tls_port import TlsPort, serve_tls

EVERYWHERE = ""
"""In place of a namespace: somebody may list Audits in all of them."""

_SEEN = msgspec.json.Decoder(SeenAudit)


class People:
    """Tokens, and the namespaces where who has them may list Audits."""

    def __init__(self, rights: Mapping[str, set[str]]) -> None:
        self.rights = {token: set(namespaces) for token, namespaces in rights.items()}
        self.asked: list[str] = []
        """Whose tokens were looked at, and `name namespace` of each right that was asked about."""

    async def who(self, token: str) -> Person | None:
        """Whose token it is: they are called as their token."""
        self.asked.append(token)
        return Person(username=token) if token in self.rights else None

    async def may_list(self, person: Person, namespace: str) -> bool:
        """Whether they may list Audits there."""
        self.asked.append(f"{person.username} {namespace}")
        return namespace in self.rights.get(person.username, ())


class Stand:
    """A page, and the strings it hangs on."""

    def __init__(self, people: People, trend: Trend | None = None) -> None:
        self.people = people
        self.shelf = Shelf()
        self.trend = trend or Trend()
        self.audits: dict[tuple[str, str], Audit] = {}
        self.port = 0
        self.metrics = PageMetrics(CommonMetrics(CollectorRegistry()))
        self.is_complete = True

    @property
    def url(self) -> str:
        """Where it is served."""
        return f"https://127.0.0.1:{self.port}"

    def put(self, *audits: Audit) -> None:
        """These are there now, as the watch would tell."""
        for audit in audits:
            self.audits[audit.metadata.namespace, audit.metadata.name] = audit
            self.shelf.put(seen(audit))

    def remove(self, audit: Audit) -> None:
        """This one is gone."""
        del self.audits[audit.metadata.namespace, audit.metadata.name]
        self.shelf.remove(seen(audit))

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        """The whole Audit, as the API server would give it."""
        found = self.audits.get((namespace, name))
        return StoredAudit(found.metadata, found) if found else None


def seen(audit: Audit) -> SeenAudit:
    """As the watch reads it from the wire."""
    return _SEEN.decode(msgspec.json.encode(audit))


@asynccontextmanager
async def open_stand(stand: Stand, folder: Path, authority: trustme.CA | None = None) -> AsyncIterator[Stand]:
    """Serve it while the context is open, by a certificate of this authority."""
    issued = (authority or trustme.CA()).issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(folder / "page.key")
    issued.cert_chain_pems[0].write_to_path(folder / "page.crt")
    sheets = Sheets()
    entrance = Entrance(Access(stand.people, stand.shelf.namespaces), sheets, stand.metrics)
    shows = Shows(
        entrance,
        sheets,
        stand.shelf,
        stand.trend,
        stand,
        is_complete=lambda: (stand.is_complete, stand.is_complete),
    )
    port = TlsPort(
        settings="MOORGATE_PAGE",
        listen=Listen(host="127.0.0.1", port=0),
        files=CertificateFiles(folder / "page.crt", folder / "page.key"),
        idle_timeout=server.IDLE_TIMEOUT,
        leave_timeout=server.LEAVE_TIMEOUT,
        ends_with_caller=True,
    )
    app = server.application(entrance, shows, sheets, stand.metrics)
    try:
        async with serve_tls(port, app, stand.metrics) as address:
            stand.port = address.port
            yield stand
    finally:
        shows.close()
