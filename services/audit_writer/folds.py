"""The one way to an Audit: what is to be folded in or changed goes through here, one after another per Audit.

What arrives for one Audit while its write is prepared, or within a second of the last, is merged in memory
and written together: a burst of a thousand Pods is one write, and everybody waits until the write that
contains his part is done. What the Audit says already is not written. Each write is a create, or an apply
that carries the uid and resourceVersion that were read: where another replica was faster, it is done anew.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from services.audit_writer.audit import (
    is_replaced,
    is_worth_a_write,
    lost_owners,
    merge,
    owner_uids,
    succeed,
    unowned,
    written_part,
)
from services.audit_writer.cluster import StoredAudit
from services.audit_writer.locks import KeyedLocks
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.open_reports import OpenReports
from services.audit_writer.unwritten import Unwritten
from shared import logs
from shared.crds import Audit, AuditMetadata, OwnerReference
from shared.errors import Conflict, Permanent, Retryable

LINGER = 0.2
"""Seconds the first decision waits for others about its workload: a rollout's Pods come within that."""

WRITE_INTERVAL = 1.0
"""Seconds at least between two folds into one Audit."""

WRITERS = 16
"""Audits read and written at once: each waits for up to three answers of the API server, one after another."""

TRIES = 8
"""Conflicts with other replicas on one Audit before the delivery is given back for a moment."""

CONFLICT_DELAY = 0.5
"""Seconds until then, more or less: that keeps replicas apart."""

SECOND_LOOK = 3.0
"""Seconds after which an Audit that lost an owner is looked at again: a collector that deletes by uid alone,
having read the old owner, deletes what has a new one by now."""

DELETION_PATIENCE, DELETION_LOOK = 60.0, 0.5
"""Seconds after a decision in which an Audit being deleted is waited for, and between two looks."""

Change = Callable[[Audit], Audit | None]


class AuditStore(Protocol):
    """Where Audits are: the API server, or lines on stdout."""

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        """The Audit, or None where there is none."""

    async def create(self, audit: Audit) -> StoredAudit:
        """Raises `Conflict` where the name is taken."""

    async def apply(self, audit: Audit) -> StoredAudit:
        """Change exactly the object whose uid and resourceVersion `audit` carries; else `Conflict`."""


class LivingOwners(Protocol):
    """Who can tell whether an owner is there."""

    async def is_alive(self, namespace: str, owner: OwnerReference) -> bool:
        """Whether this owner is there now."""


class Folds:
    """Folds into Audits, and changes them."""

    def __init__(
        self,
        cluster: AuditStore,
        owners: LivingOwners,
        metrics: AuditWriterMetrics,
        reports: OpenReports | None = None,
    ) -> None:
        """`reports`: told of each Audit that is written."""
        self._cluster = cluster
        self._reports = reports
        self._owners = owners
        self._metrics = metrics
        self._open: dict[_Key, _Batch] = {}
        self._folded_at: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._unwritten = Unwritten()
        self._locks = KeyedLocks()
        self._writers = asyncio.Semaphore(WRITERS)
        self._log = logs.logger("folds")

    async def fold(self, fresh: Audit) -> bool:
        """Make `fresh` part of the Audit of its name; True: by a write. Returns when that is done.

        Doing it again changes nothing. Raises `Retryable`, `Unavailable`, `Permanent`, `NamespaceGone`: what
        keeps one write from being done is raised to all whose part it contains.
        """
        key = _key(fresh)
        batch = self._open.get(key)
        if batch is None:
            batch = self._open[key] = _Batch(fresh)
            await self._lead(key, batch)
        else:
            batch.add(fresh)
            await batch.settled.wait()
        if isinstance(batch.error, Permanent) and batch.parts > 1:
            return await self._alone(fresh)  # one bad part must not take the others along
        if batch.error is not None:
            raise batch.error.with_traceback(None)
        return batch.written

    async def change(self, namespace: str, name: str, change: Change) -> bool:
        """Read the Audit, and write what `change` makes of it; True: written.

        `change` gets the Audit as we write it, sees no I/O and is called again after a conflict; None, or the
        same, changes nothing. False too where there is no such Audit, or it is unreadable or being deleted.
        Labels and columns follow from spec and status by themselves. What gives an Audit another spec or state
        must also give it a later `status.decision`, else a repeated decision would undo it. Raises like `fold`.
        """
        async with self._locks.hold((namespace, name)), self._writers:
            for _ in range(TRIES):
                try:
                    return await self._change(namespace, name, change)
                except Conflict as conflict:
                    self._log.debug("conflict", error=str(conflict))
        raise _beaten()

    async def _lead(self, key: "_Key", batch: "_Batch") -> None:
        """Wait for others, close the batch and write it; its outcome is told by the batch, to all alike."""
        try:
            await asyncio.sleep(max(LINGER, self._due_in(key.audit)))
            async with self._locks.hold(key.audit):
                await asyncio.sleep(self._due_in(key.audit))  # seldom: a batch for another owner was first
                async with self._writers:
                    del self._open[key]  # whoever comes now begins the next one
                    batch.written = await self._write_insisting(batch.audit, batch.parts)
        except asyncio.CancelledError:
            batch.error = Retryable("the process stops", delay=0.0)
            raise
        except Exception as error:  # noqa: BLE001  a bug, too, is everybody's whose part is in it
            batch.error = error
        finally:
            if self._open.get(key) is batch:
                del self._open[key]
            batch.settled.set()

    async def _alone(self, fresh: Audit) -> bool:
        async with self._locks.hold(_key(fresh).audit), self._writers:
            return await self._write_insisting(fresh, 1)

    def _due_in(self, audit: tuple[str, str]) -> float:
        """Seconds until this Audit may be folded into again; what is due by now is forgotten."""
        now = asyncio.get_running_loop().time()
        while self._folded_at and next(iter(self._folded_at.values())) <= now - WRITE_INTERVAL:
            self._folded_at.popitem(last=False)
        return max(0.0, self._folded_at.get(audit, float("-inf")) + WRITE_INTERVAL - now)

    async def _write_insisting(self, fresh: Audit, parts: int) -> bool:
        try:
            for _ in range(TRIES):
                try:
                    return await self._write(fresh, parts)
                except Conflict as conflict:
                    self._log.debug("conflict", error=str(conflict))
        finally:
            audit = _key(fresh).audit
            self._folded_at[audit] = asyncio.get_running_loop().time()
            self._folded_at.move_to_end(audit)
        raise _beaten()

    async def _write(self, fresh: Audit, parts: int) -> bool:
        """Read, fold, write what changed. Raises `Conflict` where somebody else wrote meanwhile."""
        metadata = fresh.metadata
        stored = await self._cluster.audit(metadata.namespace, metadata.name)
        is_new = stored is None
        if stored is None:
            # Unowned first: the owner is added by the apply below, which alone owns that field.
            stored = await self._cluster.create(unowned(fresh))
            self._note_written(fresh, parts)
        if stored.metadata.deletion_timestamp and _age(fresh) < DELETION_PATIENCE:
            raise Retryable("the Audit is being deleted", delay=DELETION_LOOK)
        before = written_part(stored.audit) if stored.audit else None
        known = self._known(before, stored.metadata) if before else None
        if known and is_replaced(known, fresh):
            await self._confirm(fresh)
        after = succeed(known, fresh) if known else fresh
        if before and not is_worth_a_write(before, after):
            self._unwritten_now(stored.metadata, before, after)
            if is_new:
                await self._report(after, stored)
            return is_new
        await self._apply(after, stored, parts)
        return True

    async def _change(self, namespace: str, name: str, change: Change) -> bool:
        stored = await self._cluster.audit(namespace, name)
        if stored is None or stored.audit is None or stored.metadata.deletion_timestamp:
            return False
        before = self._known(written_part(stored.audit), stored.metadata)
        after = change(before)
        if after is None or (after := written_part(after)) == before:
            return False
        await self._apply(after, stored, 1)
        return True

    async def _apply(self, after: Audit, stored: StoredAudit, parts: int) -> None:
        written = await self._cluster.apply(_guarded(after, stored.metadata))
        self._unwritten.forget(stored.metadata.uid)
        self._note_written(after, parts)
        await self._report(after, written)
        if lost_owners(stored.metadata, written.metadata):
            raise Retryable(
                "the Audit lost an owner, which the collector may not have seen", delay=SECOND_LOOK
            )

    async def _report(self, audit: Audit, written: StoredAudit) -> None:
        if self._reports:
            await self._reports.write(audit, written.metadata.uid)

    def _known(self, before: Audit, stored: AuditMetadata) -> Audit:
        """What is stored, and what was folded into it without a write."""
        unwritten = self._unwritten.recall(stored.uid)
        if unwritten is None or is_replaced(before, unwritten):
            return before
        if before.status.decision.judged_at > unwritten.status.decision.judged_at:
            return before  # another hand has judged what runs since then: that is not undone
        return merge(before, unwritten)

    def _unwritten_now(self, stored: AuditMetadata, before: Audit, after: Audit) -> None:
        if after == before:
            self._unwritten.forget(stored.uid)
        else:
            self._unwritten.keep(stored.uid, after)

    async def _confirm(self, fresh: Audit) -> None:
        """An Audit with another owner is given up only for one that lives now: ours may be remembered."""
        for owner in fresh.metadata.owner_references:
            if not await self._owners.is_alive(fresh.metadata.namespace, owner):
                raise Retryable(f"{owner.kind} {owner.name} is not there any more", delay=DELETION_LOOK)

    def _note_written(self, audit: Audit, parts: int) -> None:
        action = "rejected" if audit.spec.action == "reject" else "allowed"
        self._metrics.audits_written.labels(action).inc()
        self._log.info("audit_written", audit=audit.metadata.name, action=action, decisions=parts)


class _Key(msgspec.Struct, frozen=True):
    """Parts of one batch: of workloads that had one name, the later takes the place of the earlier."""

    audit: tuple[str, str]
    owners: frozenset[str]


class _Batch:
    """Parts that are written together."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        self.parts = 1
        self.settled = asyncio.Event()
        self.written = False
        self.error: Exception | None = None

    def add(self, audit: Audit) -> None:
        self.audit = merge(self.audit, audit)
        self.parts += 1


def _key(audit: Audit) -> _Key:
    return _Key((audit.metadata.namespace, audit.metadata.name), owner_uids(audit.metadata))


def _age(audit: Audit) -> float:
    return (datetime.now(UTC) - audit.status.last_seen).total_seconds()


def _guarded(audit: Audit, stored: AuditMetadata) -> Audit:
    """`audit` with what makes the apply a change of exactly the object that was read."""
    metadata = msgspec.structs.replace(
        audit.metadata, uid=stored.uid, resource_version=stored.resource_version
    )
    return msgspec.structs.replace(audit, metadata=metadata)


def _beaten() -> Retryable:
    delay = random.uniform(CONFLICT_DELAY / 2, 2 * CONFLICT_DELAY)  # noqa: S311  keeps replicas apart, no secret
    return Retryable("other replicas were faster each time", delay=delay)
