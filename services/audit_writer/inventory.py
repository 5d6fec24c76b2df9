"""What really runs: every interval the leader pages through the Pods and says what it found.

The rest of the leader's work goes by the snapshot (running.py); gateways read from a bucket whether a digest
that fails now is an incumbent. There a Pod counts once its kubelet has reported an `imageID`: what was merely
asked for proves nothing. There is no standing watch: a page at a time, in small Structs, costs a cluster of
100,000 Pods the memory of its workloads. What stops running lapses by itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import msgspec

from services.audit_writer import listed
from services.audit_writer.gathering import Gathering
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.pods import Pod
from services.audit_writer.running import Running, Snapshot
from shared import contracts, logs
from shared.buckets import Bucket
from shared.cluster import Cluster, pages
from shared.contracts import RunningDigest
from shared.errors import MoorgateError, Unavailable
from shared.subjects import running_key

PATH, NAMESPACES = "/api/v1/pods", "/api/v1/namespaces"

LIVES = 3
"""Intervals a digest is remembered after it was last seen: one inventory may fail and one be late."""

WRITES = 16
"""Entries written at a time."""

SOONEST = 60.0
"""Seconds between two inventories at least, whoever wants one sooner: each reads every Pod there is."""

AFTER_ERROR = 15.0
"""Seconds until the next inventory when one was interrupted."""

T = TypeVar("T")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Inventory:
    """Takes inventories, for as long as this process leads."""

    def __init__(
        self,
        cluster: Cluster,
        bucket: Bucket,
        running: Running,
        metrics: AuditWriterMetrics,
        *,
        interval: float,
        release_labels: tuple[str, ...],
    ) -> None:
        """`interval`: seconds between two inventories."""
        self._cluster = cluster
        self._bucket = bucket
        self._running = running
        self._metrics = metrics
        self._interval = interval
        self._release_labels = release_labels
        self._hurried = asyncio.Event()
        self._log = logs.logger("inventory")
        metrics.inventory_interval.set(interval)

    async def run(self) -> None:
        """Take inventories until cancelled; then nothing is known to run. The work of the Lease's holder."""
        try:
            while True:
                self._hurried.clear()
                await self._pause(await self._take_one())
        finally:
            self._running.replace(None)

    def hurry(self) -> None:
        """Somebody waits for what has begun to run since: take the next one as soon as may be."""
        self._hurried.set()

    async def take(self) -> int:
        """One inventory; gives how many digests run. Raises `Unavailable`, `Refused`."""
        began, gathering = datetime.now(UTC), Gathering(self._release_labels)
        async for pod in self._pods():
            gathering.add(pod)
        workloads = gathering.workloads()
        namespaces = await self._namespaces({namespace for namespace, _ in workloads})
        self._metrics.inventory_workloads.set(len(workloads))
        self._running.replace(Snapshot(taken_at=began, workloads=workloads, namespaces=namespaces))
        digests = gathering.digests()
        await self._keep(digests)
        self._metrics.inventory_last_success.set_to_current_time()
        return len(digests)

    async def _take_one(self) -> float:
        """Gives the seconds until the next."""
        pause = self._interval
        try:
            found = await self.take()
            self._log.info("inventory", digests=found)
        except MoorgateError as error:
            pause = min(pause, AFTER_ERROR)
            self._log.warning("inventory_interrupted", error=str(error), again_in=pause)
        return pause

    async def _pause(self, seconds: float) -> None:
        least = min(seconds, SOONEST)
        await asyncio.sleep(least)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), seconds - least)

    async def _keep(self, digests: dict[tuple[str, str], tuple[str, ...]]) -> None:
        now = datetime.now(UTC)
        entries = [
            RunningDigest(namespace=namespace, digest=digest, images=images, seen_at=now)
            for (namespace, digest), images in digests.items()
        ]
        for start in range(0, len(entries), WRITES):
            await asyncio.gather(*(self._put(each) for each in entries[start : start + WRITES]))

    async def _put(self, entry: RunningDigest) -> None:
        key = running_key(entry.namespace, entry.digest)
        await self._bucket.put(key, contracts.encode(entry), ttl=LIVES * self._interval)

    async def _pods(self) -> AsyncIterator[Pod]:
        async for page in pages(self._cluster, PATH, partial(_read, listed.PODS)):
            for pod in page.items:
                yield pod

    async def _namespaces(self, wanted: set[str]) -> dict[str, dict[str, str]]:
        """The labels of the wanted ones; one that is gone by now has none."""
        return {
            each.metadata.name: each.metadata.labels
            async for page in pages(self._cluster, NAMESPACES, partial(_read, listed.NAMESPACES))
            for each in page.items
            if each.metadata.name in wanted
        }


def _read(decoder: "msgspec.json.Decoder[T]", answer: bytes) -> T:
    """A page; a proxy's page is no answer of the API server's."""
    try:
        return decoder.decode(answer)
    except _UNREADABLE as error:
        raise Unavailable("kubernetes", f"a list that cannot be read: {error}") from error
