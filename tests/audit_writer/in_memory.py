"""The API server in memory: Audits by its rules for create and guarded apply, and owners as a test says."""

import asyncio
from collections import Counter

import msgspec

from services.audit_writer.audit import Standing, written_part
from services.audit_writer.cluster import AuditCluster, NamespaceGone, StoredAudit
from services.audit_writer.owners import Owners
from shared.contracts import Action, AdmissionDecided
from shared.crds import Audit, OwnerReference
from shared.errors import Conflict, MoorgateError


class AuditsInMemory(AuditCluster):
    """Keeps uids and resourceVersions; every answer takes a turn of the loop, so that others come between."""

    def __init__(self) -> None:
        self.stored: dict[str, Audit] = {}
        self.is_readable = True
        self.gone = False
        self.conflicts = 0
        self.error: MoorgateError | None = None
        """Raised by the next writes, as long as it is there."""
        self.refused: dict[str, MoorgateError] = {}
        """By release: raised where an Audit of it is to be written."""
        self.writes: Counter[str] = Counter()
        self.written_at: list[tuple[str, float]] = []
        self.reads = 0
        self._version = 0

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        assert namespace == "shop"
        self.reads += 1
        await asyncio.sleep(0)
        found = self.stored.get(name)
        return self._as_read(found) if found else None

    async def create(self, audit: Audit) -> StoredAudit:
        await asyncio.sleep(0)
        if self.gone:
            raise NamespaceGone("namespaces shop not found")
        assert audit.metadata.owner_references == ()
        assert "resourceVersion" not in msgspec.to_builtins(audit.metadata)
        if audit.metadata.name in self.stored:
            raise Conflict("it is there already")
        self._version += 1
        return self._write(audit, f"audit-uid-{self._version}")

    async def apply(self, audit: Audit) -> StoredAudit:
        await asyncio.sleep(0)
        metadata = audit.metadata
        stored = self.stored.get(metadata.name)
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("somebody was faster")
        if stored is None or stored.metadata.resource_version != metadata.resource_version:
            raise Conflict("somebody was faster")
        return self._write(audit, metadata.uid)

    def one(self, name: str) -> Audit | None:
        """The Audit as it was written."""
        found = self.stored.get(name)
        return written_part(found) if found else None

    def remove(self, name: str) -> None:
        """As the collector does."""
        del self.stored[name]

    def _write(self, audit: Audit, uid: str | None) -> StoredAudit:
        if self.error:
            raise self.error
        if audit.spec.release_name in self.refused:
            raise self.refused[audit.spec.release_name]
        name = audit.metadata.name
        self._version += 1
        self.writes[name] += 1
        self.written_at.append((name, asyncio.get_running_loop().time()))
        metadata = msgspec.structs.replace(audit.metadata, uid=uid, resource_version=str(self._version))
        self.stored[name] = msgspec.structs.replace(audit, metadata=metadata)
        return self._as_read(self.stored[name])

    def _as_read(self, audit: Audit) -> StoredAudit:
        return StoredAudit(audit.metadata, audit if self.is_readable else None)


class OwnersSaid(Owners):
    """Says what the test wants."""

    def __init__(self, standing: Standing) -> None:
        self.said = standing
        self.dead: set[str] = set()

    async def standing(self, decision: AdmissionDecided) -> Standing:
        assert decision.action is not Action.DEFERRED
        return self.said

    async def is_alive(self, namespace: str, owner: OwnerReference) -> bool:
        assert namespace == "shop"
        return owner.uid not in self.dead
