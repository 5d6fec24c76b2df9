"""Audits that no owner takes along are deleted once their newest decision is older than the retention.

A label marks them, so that the sweep reads nothing else. Every replica sweeps: a delete carries the uid
and resourceVersion that were read, so it never meets an Audit that has changed meanwhile, and two
sweeps do each other no harm.
"""

import asyncio
from datetime import UTC, datetime, timedelta

from services.audit_writer.cluster import AuditCluster, UnownedAudit
from shared import logs
from shared.errors import Conflict, MoorgateError, Refused

LONGEST_PAUSE, SHORTEST_PAUSE = 600.0, 0.5
"""Seconds between two sweeps: a quarter of the retention, between these."""

AFTER_ERROR = 15.0
"""Seconds until the next sweep when one was interrupted."""


class Retention:
    """Sweeps away what is too old."""

    def __init__(self, cluster: AuditCluster, seconds: float) -> None:
        self._cluster = cluster
        self._kept = timedelta(seconds=seconds)
        self._pause = min(max(seconds / 4, SHORTEST_PAUSE), LONGEST_PAUSE)
        self._log = logs.logger("retention")

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            pause = self._pause
            try:
                await self.sweep(datetime.now(UTC))
            except MoorgateError as error:
                pause = min(pause, AFTER_ERROR)
                self._log.warning("sweep_interrupted", error=str(error), again_in=pause)
            await asyncio.sleep(pause)

    async def sweep(self, now: datetime) -> None:
        """Delete what is too old at `now`. Raises like the cluster."""
        async for audit in self._cluster.unowned():
            if is_expired(audit, now - self._kept, now) and await self._delete(audit):
                self._log.info("audit_expired", audit=audit.metadata.name, namespace=audit.metadata.namespace)

    async def _delete(self, audit: UnownedAudit) -> bool:
        """False where it has changed or gone since it was read."""
        try:
            await self._cluster.delete(audit.metadata)
        except Conflict:
            return False
        except Refused as error:
            if error.status == _NOT_FOUND:
                return False
            raise
        return True


_NOT_FOUND = 404


def is_expired(audit: UnownedAudit, horizon: datetime, now: datetime) -> bool:
    """Whether the newest decision was before `horizon`; a time that is yet to come counts as the creation's."""
    if audit.metadata.owner_references or audit.metadata.deletion_timestamp:
        return False
    last_seen = audit.status.last_seen
    if last_seen > now and audit.metadata.creation_timestamp:
        last_seen = audit.metadata.creation_timestamp
    return last_seen < horizon
