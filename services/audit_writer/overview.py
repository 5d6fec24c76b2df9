"""After each inventory every Audit is held against what runs: missing ones are made, owners mended, digests compared.

Nothing waits for it: inventories go on beside it, and when it is through it takes the newest. What it writes goes
through folds.py, at the process's rate and behind few others, so that decisions pass it by. What one Audit
cannot be given is tried again after the next inventory.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from services.audit_writer.audit import LAST_SEEN_EVERY, Standing
from services.audit_writer.cluster import AuditCluster, NamespaceGone
from services.audit_writer.folds import Folds
from services.audit_writer.observed import as_if_decided, is_due, observed_audit
from services.audit_writer.owners import Owners
from services.audit_writer.running import Running, RunningImage, Snapshot, Workload
from services.audit_writer.sketches import Sketch, all_audits
from services.audit_writer.verification import COMPARED, compare, is_news, verified
from shared import logs
from shared.cluster import Cluster
from shared.contracts import AdmissionDecided, Mode
from shared.crds import Audit
from shared.errors import MoorgateError, Unavailable
from shared.image_policies import PolicyFeed
from shared.policies import Tenants

WRITERS = 8
"""Audits in work at once: enough for the rate of writes, and a decision waits behind no more than so many."""

AFTER_ERROR = 15.0
"""Seconds until it is begun anew when it was interrupted."""

_GOING = frozenset({"OwnerNotFound", "OtherUid", "OwnerBeingDeleted"})
"""Doubts about an owner after which the collector takes the Pods, too."""


class Overview:
    """Keeps the Audits a list of what runs."""

    def __init__(
        self,
        *,
        api_server: Cluster,
        cluster: AuditCluster,
        folds: Folds,
        owners: Owners,
        running: Running,
        policies: PolicyFeed,
        tenants: Tenants,
    ) -> None:
        self._api_server = api_server
        self._cluster = cluster
        self._folds = folds
        self._owners = owners
        self._running = running
        self._policies = policies
        self._tenants = tenants
        self._changed = asyncio.Event()
        self._log = logs.logger("overview")
        running.on_change(self._changed.set)

    async def run(self) -> None:
        """Go through the Audits after each inventory until cancelled. The work of the Lease's holder."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            snapshot = self._running.snapshot
            try:
                if snapshot is not None:
                    await self.go_through(snapshot)
            except MoorgateError as error:
                self._log.warning("overview_interrupted", error=str(error), again_in=AFTER_ERROR)
                await asyncio.sleep(AFTER_ERROR)
                self._changed.set()

    async def go_through(self, snapshot: Snapshot) -> None:
        """Hold every Audit against the snapshot. Raises `Unavailable`, `Refused`."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._compare(snapshot, _Workers(group, WRITERS))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _compare(self, snapshot: Snapshot, workers: "_Workers") -> None:
        now, missing = datetime.now(UTC), dict(snapshot.workloads)
        async for where, sketch in all_audits(self._api_server):
            workload = missing.pop(where, None)
            if workload is not None and sketch is not None and _is_due(sketch, workload, snapshot, now):
                await workers.begin(partial(self._mend, sketch, workload, snapshot))
        for workload in missing.values():
            if is_due(workload, now):
                await workers.begin(partial(self._observe, workload, snapshot))

    async def _observe(self, workload: Workload, snapshot: Snapshot) -> None:
        """Make the Audit of what nobody decided about; a decision that comes in between wins."""
        decision = self._as_if_decided(workload, snapshot)
        standing = await self._owners.standing(decision)
        if _is_going(standing, workload):
            return
        if standing.name != workload.audit and await self._cluster.audit(workload.namespace, standing.name):
            return  # its decision is recorded, under the name of a Pod of it
        await self._folds.fold(observed_audit(decision, standing))

    async def _mend(self, sketch: Sketch, workload: Workload, snapshot: Snapshot) -> None:
        if sketch.status.decision.attempt and is_due(workload, datetime.now(UTC)):
            return await self._observe(workload, snapshot)
        standing: Standing | None = None
        if not sketch.metadata.owner_references:
            standing = await self._owners.standing(self._as_if_decided(workload, snapshot))
        now = datetime.now(UTC)

        def change(audit: Audit) -> Audit | None:
            kept = _owned(audit, standing, now) if standing else audit
            return verified(kept, workload, snapshot.taken_at, now) or kept

        await self._folds.change(workload.namespace, workload.audit, change)
        return None

    def _as_if_decided(self, workload: Workload, snapshot: Snapshot) -> AdmissionDecided:
        labels = snapshot.namespaces.get(workload.namespace)

        def mode_of(image: RunningImage) -> Mode:
            return self._policies.rules.rule_for(labels, image.reference, image.image, self._tenants).mode

        return as_if_decided(workload, mode_of, datetime.now(UTC))


def _is_due(sketch: Sketch, workload: Workload, snapshot: Snapshot, now: datetime) -> bool:
    """Whether there may be anything to change."""
    status = sketch.status
    if not sketch.metadata.owner_references or status.decision.attempt:
        return is_due(workload, now)
    if status.state not in COMPARED or status.decision.at >= snapshot.taken_at:
        return False
    found = compare(sketch.spec.images, workload)
    is_told = any(each.id == found.identity for each in status.transitions)
    return is_news(found, status.state, is_told=is_told)


def _is_going(standing: Standing, workload: Workload) -> bool:
    """Whether it is gone, or another by now, or has lost its owner and is collected: the next inventory knows."""
    if standing.doubt is not None:
        return standing.doubt.reason in _GOING
    return standing.is_attempt or (workload.stands_alone and standing.owner is None)


def _owned(audit: Audit, standing: Standing, now: datetime) -> Audit:
    """The Audit with its owner, read just now; without one it runs all the same, and is seen so."""
    metadata, status = audit.metadata, audit.status
    if metadata.owner_references:
        return audit
    if standing.owner is not None and standing.name == metadata.name:
        return msgspec.structs.replace(
            audit, metadata=msgspec.structs.replace(metadata, owner_references=(standing.owner,))
        )
    if now - status.last_seen < LAST_SEEN_EVERY:
        return audit
    return msgspec.structs.replace(audit, status=msgspec.structs.replace(status, last_seen=now))


class _Workers:
    """A bounded number of tasks."""

    def __init__(self, group: asyncio.TaskGroup, count: int) -> None:
        self._group = group
        self._free = asyncio.Semaphore(count)
        self._log = logs.logger("overview")

    async def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Return once there is a worker for it. An API server that is away ends all of them."""
        await self._free.acquire()
        self._group.create_task(self._one(work))

    async def _one(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What is wrong with one Audit is no reason to leave the others."""
        try:
            await work()
        except NamespaceGone:
            return
        except Unavailable:
            raise
        except MoorgateError as error:
            self._log.warning("audit_not_kept", error=str(error), again="after the next inventory")
        finally:
            self._free.release()
