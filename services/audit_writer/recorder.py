"""A decision becomes part of an Audit: find whose, fold it in, say when to look again.

`record()` is what the consumer calls for each delivery. It writes once with what is known; where the
owner may still appear, or the garbage collector may be acting on the owner there was before, it asks for
the delivery again: the stream is the durable timer. Within one process decisions on one Audit wait for
each other; between replicas the uid and resourceVersion of each write decide.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from services.audit_writer.audit import Standing, audit_of, lost_owners, succeed, unowned, written_part
from services.audit_writer.cluster import AuditCluster, NamespaceGone
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.owners import Owners
from shared import logs
from shared.consumer import Delivery
from shared.contracts import Action, AdmissionDecided
from shared.crds import Audit, AuditMetadata
from shared.errors import Conflict, Permanent, Retryable

OWNER_PATIENCE = 60.0
"""Seconds after the decision in which an owner may still appear: a later webhook may have refused the Pod."""

OWNER_LOOKS = 12
"""Looks for an owner, whatever the clocks of gateway and audit-writer say."""

FIRST_LOOK, LONGEST_WAIT = 0.5, 16.0
"""Seconds between two looks for an owner: doubled each time, between these."""

SECOND_LOOK = 3.0
"""Seconds after which an Audit that lost an owner is looked at again: a collector that deletes by uid alone,
having read the old owner, deletes what has a new one by now."""

TRIES = 8
"""Conflicts with other replicas on one Audit before the delivery is given back for a moment."""

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


class Recorder:
    """Writes decisions into Audits."""

    def __init__(self, cluster: AuditCluster, owners: Owners, metrics: AuditWriterMetrics) -> None:
        self._cluster = cluster
        self._owners = owners
        self._metrics = metrics
        self._locks = _KeyedLocks()
        self._log = logs.logger("recorder")

    async def record(self, decision: AdmissionDecided, delivery: Delivery) -> None:
        """Record one decision; doing it again changes nothing.

        Raises `Retryable` to be called again, `Unavailable` while the API server is away, `Permanent`.
        """
        if decision.action is Action.DEFERRED:
            return  # an event and a metric, never an Audit
        if not _NAMESPACE.fullmatch(decision.namespace):
            raise Permanent(f"{decision.namespace!r} is no namespace")
        with logs.bind(decision=decision.id, namespace=decision.namespace, pod=decision.pod_name):
            try:
                await self._record(decision, delivery)
            except NamespaceGone as error:
                self._log.info("namespace_gone", error=str(error), then="nothing is recorded")

    async def _record(self, decision: AdmissionDecided, delivery: Delivery) -> None:
        standing = await self._owners.standing(decision)
        wait = 0.0 if standing.is_final else _wait_for_owner(decision, delivery)
        if wait and (standing.doubt or standing.is_attempt):  # written once it is known where it belongs
            raise Retryable("the owner may still appear", delay=wait)
        if standing.doubt:
            self._log.warning("owner_unverified", reason=standing.doubt.reason, why=standing.doubt.message)
        await self._fold(decision, standing)
        if wait:
            raise Retryable("the Pod is not there yet", delay=wait)

    async def _fold(self, decision: AdmissionDecided, standing: Standing) -> None:
        """Merge the decision into its Audit, creating it if need be."""
        fresh = audit_of(decision, standing)
        async with self._locks.hold(f"{decision.namespace}/{standing.name}"):
            for _ in range(TRIES):
                try:
                    return await self._write(fresh, decision)
                except Conflict as conflict:
                    self._log.debug("conflict", error=str(conflict))
        delay = random.uniform(FIRST_LOOK / 2, 2 * FIRST_LOOK)  # noqa: S311  keeps replicas apart, no secret
        raise Retryable("other replicas were faster each time", delay=delay)

    async def _write(self, fresh: Audit, decision: AdmissionDecided) -> None:
        """Read, fold, write what changed. Raises `Conflict` where somebody else wrote meanwhile."""
        name = fresh.metadata.name
        stored = await self._cluster.audit(fresh.metadata.namespace, name)
        if stored is None:
            # Unowned first: the owner is added by the apply below, which alone owns that field.
            stored = await self._cluster.create(unowned(fresh))
            self._note_written(decision, name)
        if stored.metadata.deletion_timestamp and _age(decision) < OWNER_PATIENCE:
            raise Retryable("the Audit is being deleted", delay=FIRST_LOOK)
        before = written_part(stored.audit) if stored.audit else None
        after = succeed(before, fresh) if before else fresh
        if after == before:
            return
        written = await self._cluster.apply(_guarded(after, stored.metadata))
        self._note_written(decision, name)
        if lost_owners(stored.metadata, written.metadata):
            raise Retryable(
                "the Audit lost an owner, which the collector may not have seen", delay=SECOND_LOOK
            )

    def _note_written(self, decision: AdmissionDecided, name: str) -> None:
        self._metrics.audits_written.labels(decision.action).inc()
        self._metrics.audit_lag.observe(max(0.0, _age(decision)))
        self._log.info("audit_written", audit=name, action=decision.action)


def _wait_for_owner(decision: AdmissionDecided, delivery: Delivery) -> float:
    """Seconds until the owner is looked for again; 0: no more."""
    left = OWNER_PATIENCE - _age(decision)
    if left <= 0 or delivery.number >= OWNER_LOOKS:
        return 0.0
    wait = min(FIRST_LOOK * 2.0 ** (delivery.number - 1), LONGEST_WAIT)
    return max(min(wait, left), FIRST_LOOK)


def _age(decision: AdmissionDecided) -> float:
    return (datetime.now(UTC) - decision.decided_at).total_seconds()


def _guarded(audit: Audit, stored: AuditMetadata) -> Audit:
    """`audit` with what makes the apply a change of exactly the object that was read."""
    metadata = msgspec.structs.replace(
        audit.metadata, uid=stored.uid, resource_version=stored.resource_version
    )
    return msgspec.structs.replace(audit, metadata=metadata)


class _KeyedLocks:
    """One lock a key, for as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of `key`."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
