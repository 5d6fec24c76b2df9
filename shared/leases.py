"""Leadership by a Lease: at most one of several processes does a piece of work, and another takes over.

As client-go does it: whoever holds the Lease renews it; the others watch it change. A Lease that has not
changed for its duration *on the watcher's own clock* is free: times written by others are never compared,
so clocks may differ. The holder counts from before its last good renewal was sent and stops its work when
the renew deadline has passed, which is earlier than anybody else may start. Changes carry the
resourceVersion, so of two that reach for a free Lease one gets a conflict.

This is no fence: a process that is paused for longer than the duration runs on for a moment when it wakes.
What it writes must bear its own proof of freshness (a resourceVersion).

Source: https://github.com/kubernetes/client-go/blob/master/tools/leaderelection/leaderelection.go
"""

import asyncio
import math
import os
import secrets
import socket
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared import logs
from shared.cluster import MERGE, Cluster
from shared.errors import Conflict, MoorgateError
from shared.objects import ObjectMeta

API_VERSION = "coordination.k8s.io/v1"

RELEASE_TIMEOUT = 3.0
"""Seconds a stop may spend on giving the Lease back; not given back, it runs out by itself."""


class LeaseTimes(msgspec.Struct, frozen=True):
    """Seconds; client-go's defaults. `duration` > `renew_deadline` > `retry`."""

    duration: float = 15.0
    """How long an unchanged Lease is respected."""
    renew_deadline: float = 10.0
    """How long the holder goes on without a renewal; the rest of `duration` is for its work to end."""
    retry: float = 2.0
    """Between two attempts, of the holder to renew and of the others to acquire."""


class LeaseSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who holds it. Times are text: they are for people, and only whether they change is looked at."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A Lease as it is read and created."""

    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()
    api_version: str = API_VERSION
    kind: str = "Lease"


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str


class _Change(msgspec.Struct, frozen=True):
    metadata: _Version
    spec: LeaseSpec


_LEASE = msgspec.json.Decoder(Lease)


class Leadership:
    """One candidate for one Lease."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, times: LeaseTimes | None = None) -> None:
        self.is_leading = False
        """True while the work runs."""
        self.identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._collection = f"/apis/{API_VERSION}/namespaces/{namespace}/leases"
        self._times = times or LeaseTimes()
        self._observed: LeaseSpec | None = None
        self._observed_at = 0.0
        self._log = logs.logger("leases").bind(lease=f"{namespace}/{name}", identity=self.identity)

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Until cancelled: wait for the Lease, run `work` while it is held, cancel it when it is lost.

        Cancelled, it ends the work first and then gives the Lease back, so that another need not wait.
        What `work` raises ends leadership and comes out in an `ExceptionGroup`. Work that returns is not run
        again in the same term.
        """
        while True:
            held_since = await self._acquire()
            self.is_leading = True
            self._log.info("leading")
            is_lost = False
            try:
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(work())
                    await self._keep(held_since)
                    is_lost = True
                    task.cancel()
            finally:
                self.is_leading = False
                if not is_lost:
                    await self._release()

    async def _acquire(self) -> float:
        """Wait for the Lease; gives the time before it was asked for."""
        failure = ""
        while True:
            asked_at = self._now()
            try:
                async with asyncio.timeout(self._times.renew_deadline):
                    if await self._take():
                        return asked_at
                failure = ""
            except Conflict:
                self._log.debug("lease_taken_by_another")
            except (MoorgateError, TimeoutError) as error:
                if failure != type(error).__name__:
                    self._log.warning("lease_not_to_be_had", error=str(error) or "no answer in time")
                failure = type(error).__name__
            await asyncio.sleep(self._times.retry)

    async def _keep(self, renewed_at: float) -> None:
        """Renew; returns when the Lease is lost."""
        reason = "no answer in time"
        while True:
            limit = renewed_at + self._times.renew_deadline
            await asyncio.sleep(min(self._times.retry, max(0.0, limit - self._now())))
            asked_at = self._now()
            try:
                async with asyncio.timeout_at(limit):
                    if not await self._take():
                        self._log.warning("leadership_lost", reason="another holds the Lease")
                        return
                renewed_at = asked_at
            except (MoorgateError, TimeoutError) as error:
                reason = str(error) or reason
                if self._now() >= limit:
                    self._log.warning("leadership_lost", reason=f"not renewed: {reason}")
                    return

    async def _take(self) -> bool:
        """Acquire or renew, once. False: another holds it. Raises `MoorgateError` when that is not known."""
        lease = await self._cluster.get(f"{self._collection}/{self._name}", _LEASE)
        if lease is None:
            metadata = ObjectMeta(name=self._name, namespace=self._namespace)
            new = Lease(metadata=metadata, spec=self._record(None))
            self._observe(_LEASE.decode(await self._cluster.create(self._collection, new)))
            return True
        self._observe(lease)
        if self._is_anothers(lease.spec):
            return False
        self._observe(_LEASE.decode(await self._change(lease, self._record(lease.spec))))
        return True

    def _observe(self, lease: Lease) -> None:
        """Note when this process first saw the Lease as it is."""
        if lease.spec != self._observed:
            self._observed, self._observed_at = lease.spec, self._now()

    def _is_anothers(self, spec: LeaseSpec) -> bool:
        """Held, and changed within its duration as far as this process has seen."""
        if not spec.holder_identity or spec.holder_identity == self.identity:
            return False
        duration = spec.lease_duration_seconds or self._times.duration
        return self._now() < self._observed_at + duration

    def _record(self, before: LeaseSpec | None) -> LeaseSpec:
        """The Lease as ours, from now."""
        now = _micro_time()
        transitions = (before.lease_transitions or 0) if before else 0
        is_ours = before is not None and before.holder_identity == self.identity
        return LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=math.ceil(self._times.duration),
            acquire_time=before.acquire_time if before and is_ours else now,
            renew_time=now,
            lease_transitions=transitions if is_ours or before is None else transitions + 1,
        )

    async def _change(self, lease: Lease, spec: LeaseSpec) -> bytes:
        """Write exactly the Lease that was read; labels and whatever else it bears stay."""
        body = _Change(_Version(lease.metadata.resource_version), spec)
        return await self._cluster.request(
            "PATCH",
            f"{self._collection}/{self._name}",
            body=msgspec.json.encode(body),
            content_type=MERGE,
        )

    async def _release(self) -> None:
        """Give the Lease back if it is still ours; a failure only makes the next leader wait."""
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                lease = await self._cluster.get(f"{self._collection}/{self._name}", _LEASE)
                if lease is None or lease.spec.holder_identity != self.identity:
                    return
                free = msgspec.structs.replace(
                    lease.spec, holder_identity="", lease_duration_seconds=1, renew_time=_micro_time()
                )
                await self._change(lease, free)
                self._log.info("lease_released")
        except (MoorgateError, TimeoutError) as error:
            self._log.warning("lease_not_released", error=str(error) or "no answer in time")

    @staticmethod
    def _now() -> float:
        """The loop's monotonic clock."""
        return asyncio.get_running_loop().time()


def _micro_time() -> str:
    """Kubernetes' MicroTime: always six digits."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
