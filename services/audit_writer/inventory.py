"""What really runs: every interval the leader pages through the Pods and keeps each running digest by namespace.

Gateways read from it whether a digest that fails now is an incumbent. A Pod counts once its kubelet has
reported an `imageID`: what was merely asked for proves nothing. There is no standing watch: a page at a
time, in small Structs, costs a cluster of 100,000 Pods no memory. What stops running lapses by itself.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from shared import contracts, logs
from shared.buckets import Bucket
from shared.cluster import PAGE, Cluster, ListMeta
from shared.contracts import RunningDigest
from shared.errors import MoorgateError
from shared.objects import ObjectMeta
from shared.subjects import running_key

PATH = "/api/v1/pods"

LIVES = 3
"""Intervals a digest is remembered after it was last seen: one inventory may fail and one be late."""

WRITES = 16
"""Entries written at a time."""

MAX_IMAGES = 5
"""References kept of a digest that several name."""

AFTER_ERROR = 15.0
"""Seconds until the next inventory when one was interrupted."""

_DIGEST = re.compile(r"@(sha(?:256|384|512):[0-9a-f]{64,128})$")


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")


class _PodStatus(msgspec.Struct, frozen=True, rename="camel"):
    phase: str = ""
    container_statuses: list[_Status] = []
    init_container_statuses: list[_Status] = []
    ephemeral_container_statuses: list[_Status] = []


class _Pod(msgspec.Struct, frozen=True):
    metadata: ObjectMeta
    status: _PodStatus = _PodStatus()


class _Pods(msgspec.Struct, frozen=True):
    items: list[_Pod]
    metadata: ListMeta = ListMeta()


_PODS = msgspec.json.Decoder(_Pods)
_ENDED = frozenset({"Succeeded", "Failed"})


class Inventory:
    """Keeps the bucket of what runs."""

    def __init__(self, cluster: Cluster, running: Bucket, interval: float) -> None:
        """`interval`: seconds between two inventories."""
        self._cluster = cluster
        self._running = running
        self._interval = interval
        self._log = logs.logger("inventory")

    async def run(self) -> None:
        """Take inventories until cancelled. The work of the Lease's holder."""
        while True:
            pause = self._interval
            try:
                found = await self.take()
                self._log.info("inventory", digests=found)
            except MoorgateError as error:
                pause = min(pause, AFTER_ERROR)
                self._log.warning("inventory_interrupted", error=str(error), again_in=pause)
            await asyncio.sleep(pause)

    async def take(self) -> int:
        """One inventory; gives how many digests run. Raises `Unavailable`, `Refused`."""
        digests: dict[tuple[str, str], set[str]] = {}
        async for pod in self._pods():
            for digest, image in running_digests(pod):
                digests.setdefault((pod.metadata.namespace, digest), set()).add(image)
        now = datetime.now(UTC)
        entries = [
            RunningDigest(
                namespace=namespace, digest=digest, images=tuple(sorted(images)[:MAX_IMAGES]), seen_at=now
            )
            for (namespace, digest), images in digests.items()
        ]
        for start in range(0, len(entries), WRITES):
            await asyncio.gather(*(self._put(each) for each in entries[start : start + WRITES]))
        return len(entries)

    async def _put(self, entry: RunningDigest) -> None:
        key = running_key(entry.namespace, entry.digest)
        await self._running.put(key, contracts.encode(entry), ttl=LIVES * self._interval)

    async def _pods(self) -> AsyncIterator[_Pod]:
        query = {"limit": str(PAGE)}
        while True:
            page = _PODS.decode(await self._cluster.request("GET", PATH, query=query))
            for pod in page.items:
                yield pod
            if not page.metadata.continue_:
                return
            query["continue"] = page.metadata.continue_


def running_digests(pod: _Pod) -> list[tuple[str, str]]:
    """Digest and reference of each container that a kubelet has reported; nothing of a Pod that has ended.

    An `imageID` without a repository's digest (`sha256:…` alone is the id of a configuration) does not count.
    """
    if pod.status.phase in _ENDED:
        return []
    status = pod.status
    reported = (
        *status.container_statuses,
        *status.init_container_statuses,
        *status.ephemeral_container_statuses,
    )
    return [(found[1], each.image) for each in reported if (found := _DIGEST.search(each.image_id))]
