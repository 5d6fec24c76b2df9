"""Audits without a cluster: kept in memory while there is room, and each change written to stdout as one line of JSON.

What the API server does for folds.py is done here: uid, resourceVersion, and a conflict where somebody was faster. A line
is flushed before its decision is acknowledged, so a process that dies loses none; one that dies between the two writes the
line again. What was forgotten, or written before a restart, begins anew with the next decision about the workload.
"""

import asyncio
import sys
import uuid
from collections import OrderedDict
from typing import BinaryIO

import msgspec

from services.audit_writer.audit import Doubt, Standing
from services.audit_writer.cluster import StoredAudit
from shared import crds
from shared.contracts import AdmissionDecided
from shared.crds import Audit, OwnerReference
from shared.errors import Conflict, Unavailable

MAX_BYTES = 64 * 1024 * 1024
"""Of Audits kept, as JSON: the usual one takes 2 KiB, none more than 64."""

_AUDIT = msgspec.json.Decoder(Audit)
_ENCODER = msgspec.json.Encoder()

_NO_CLUSTER = Doubt("NoCluster", "nobody could read the controller that the Pod names: there is no cluster")


class AuditLines:
    """The store of Audits, and the writer of lines."""

    def __init__(self, stream: BinaryIO | None = None, max_bytes: int = MAX_BYTES) -> None:
        """`stream`: stdout, unless a test has another."""
        self.broken = asyncio.Event()
        """Set when nobody reads any more, or the disk is full: nothing can be recorded by this process."""
        self._stream = stream or sys.stdout.buffer
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._turn = asyncio.Lock()
        self._version = 0

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        """The Audit as it was written last, or None where it is not remembered."""
        encoded = self._kept.get((namespace, name))
        if encoded is None:
            return None
        self._kept.move_to_end((namespace, name))
        audit = _AUDIT.decode(encoded)
        return StoredAudit(audit.metadata, audit)

    async def create(self, audit: Audit) -> StoredAudit:
        """Raises `Conflict` where it is remembered by now, `Unavailable`: nothing can be written."""
        async with self._turn:
            if (audit.metadata.namespace, audit.metadata.name) in self._kept:
                raise Conflict("it is there already")
            return await self._write(audit, str(uuid.uuid4()))

    async def apply(self, audit: Audit) -> StoredAudit:
        """Write the Audit whose uid and resourceVersion it carries; else `Conflict`. Raises `Unavailable`."""
        async with self._turn:
            stored = await self.audit(audit.metadata.namespace, audit.metadata.name)
            if stored is None or stored.metadata.resource_version != audit.metadata.resource_version:
                raise Conflict("somebody was faster")
            return await self._write(audit, audit.metadata.uid)

    async def answers(self) -> bool:
        """Whether lines can be written."""
        return not self.broken.is_set()

    async def run(self) -> None:
        """Wait for the end of stdout. Raises `OSError`, which ends the process: its successor gets the decisions."""
        await self.broken.wait()
        raise OSError("Audits cannot be written to stdout")

    async def _write(self, audit: Audit, uid: str | None) -> StoredAudit:
        plain = msgspec.structs.replace(audit.metadata, uid=None, resource_version=None)
        line = _ENCODER.encode(msgspec.structs.replace(audit, metadata=plain))
        try:
            await asyncio.to_thread(self._print, line)  # a pipe that nobody empties must not stop the loop
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.broken.set()
            raise Unavailable("stdout", str(error)) from error
        self._version += 1
        metadata = msgspec.structs.replace(audit.metadata, uid=uid, resource_version=str(self._version))
        written = msgspec.structs.replace(audit, metadata=metadata)
        self._keep(written)
        return StoredAudit(metadata, written)

    def _print(self, line: bytes) -> None:
        """As UTF-8, which JSON is, whatever the terminal's encoding."""
        self._stream.write(line + b"\n")
        self._stream.flush()

    def _keep(self, audit: Audit) -> None:
        key = audit.metadata.namespace, audit.metadata.name
        self._bytes -= len(self._kept.pop(key, b""))
        self._kept[key] = encoded = _ENCODER.encode(audit)
        self._bytes += len(encoded)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            self._bytes -= len(self._kept.popitem(last=False)[1])


class OwnersByClaim:
    """Whose Audit it is, by what the Pod says: nobody can look. So none is owned, and a claim says that it is one."""

    async def standing(self, decision: AdmissionDecided) -> Standing:
        """One Audit for all Pods that name one controller, as in a cluster."""
        if decision.owner is None:
            return Standing(name=crds.pod_audit_name(decision.pod_name))
        return Standing(name=crds.owner_audit_name(decision.owner), doubt=_NO_CLUSTER)

    async def is_alive(self, namespace: str, owner: OwnerReference) -> bool:  # noqa: ARG002  nothing is owned
        """Nobody knows."""
        return False
