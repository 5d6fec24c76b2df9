"""A stand-in for scheduler and kubelet: nodes that are always ready, Pods that run the moment they are bound.

One watch over all Pods; each event is answered by what the Pod lacks next: a node, a status, its removal,
and for a Job's Pod its end. A Pod's events are worked in order, different Pods side by side. Nothing is
remembered that the API server doesn't know, so that a lost watch is mended by listing again. Runs until
it is stopped: `python -m deploy.dev.kubelet --kubeconfig FILE --nodes 2`.
"""

import argparse
import asyncio
import itertools
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from deploy.dev.kubeapi import ApiError, KubeApi
from deploy.dev.pods import Phase, Pod, is_reported, report

WORKERS = 8
"""Pods answered side by side; more would only queue in the API server of a small machine."""

RETRY_DELAY = 0.2
"""Seconds before another try when the API server is away: a restart of it takes about five."""

CONFLICT = 409
MOVED_ON = frozenset({404, CONFLICT, 422})
"""The Pod is gone or has been replaced or changed; the watch says how it is now."""

OVERLOADED = frozenset({429, 500, 502, 503, 504})


class PodList(msgspec.Struct, frozen=True):
    """All Pods and the point to watch from."""

    metadata: "ListMetadata"
    items: list[Pod]


class ListMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """Where a list stands in time."""

    resource_version: str


class Bookmark(msgspec.Struct, frozen=True):
    """Of a watch event, only where it stands in time."""

    metadata: ListMetadata


@dataclass
class Kubelet:
    """The made-up machines and everything on them."""

    api: KubeApi
    nodes: list[str]
    images: Path | None = None
    """Read at each Pod's start, so that a test can move a tag."""
    job_seconds: float | None = 0.5
    """How long a Job's Pod runs before it succeeds; None: for ever."""
    but_not: str = ""
    """A namespace left to another: see deploy/dev/installed."""
    _queues: list[asyncio.Queue[Pod]] = field(
        default_factory=lambda: [asyncio.Queue() for _ in range(WORKERS)]
    )
    _ending: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._next_node: Iterator[str] = itertools.cycle(self.nodes)

    async def run(self, registered: Callable[[], object]) -> None:
        """Register the nodes, say so, then answer Pods for ever."""
        for node in self.nodes:
            await self._register(node)
        registered()
        async with asyncio.TaskGroup() as tasks:
            for queue in self._queues:
                tasks.create_task(self._work(queue, tasks))
            while True:
                await self._follow()

    async def _register(self, node: str) -> None:
        path = f"/api/v1/nodes/{node}"
        try:
            await self.api.request("POST", "/api/v1/nodes", _node(node))
        except ApiError as error:
            if error.status != CONFLICT:  # registered by an earlier run
                raise
        # Admission taints new nodes "not ready"; the controller that lifts it isn't among those that run.
        await self.api.merge_patch(path, {"spec": {"taints": None}})
        await self.api.merge_patch(f"{path}/status", {"status": _node_status(_now())})

    async def _follow(self) -> None:
        """List, then watch until it breaks; the next list makes up for whatever was missed."""
        try:
            listed = msgspec.json.decode(await self.api.request("GET", "/api/v1/pods"), type=PodList)
            for pod in listed.items:
                self._enqueue(pod)
            version = listed.metadata.resource_version
            while True:
                version = await self._watch(version)
        except (ApiError, aiohttp.ClientError, TimeoutError) as error:
            print(f"watch ended, listing again: {error!r}", flush=True)
            await asyncio.sleep(RETRY_DELAY)

    async def _watch(self, version: str) -> str:
        async for event in self.api.watch("/api/v1/pods", version):
            version = msgspec.json.decode(event.object, type=Bookmark).metadata.resource_version
            if event.type in {"ADDED", "MODIFIED"}:
                self._enqueue(msgspec.json.decode(event.object, type=Pod))
        return version

    def _enqueue(self, pod: Pod) -> None:
        self._queues[zlib.crc32(pod.metadata.uid.encode()) % WORKERS].put_nowait(pod)

    async def _work(self, queue: asyncio.Queue[Pod], tasks: asyncio.TaskGroup) -> None:
        while True:
            pod = await queue.get()
            await self._answer(pod, tasks)

    async def _answer(self, pod: Pod, tasks: asyncio.TaskGroup) -> None:
        """What the Pod lacks next, if anything."""
        if pod.metadata.namespace == self.but_not:
            return
        if pod.metadata.deletion_timestamp is not None:
            if pod.metadata.deletion_grace_period_seconds != 0:  # 0: only finalizers hold it still
                await _persist(lambda: self._remove(pod))
        elif pod.waits_for_a_node:
            await _persist(lambda: self._bind(pod))
        elif pod.spec.node_name not in self.nodes or pod.is_finished:
            return
        elif not is_reported(pod):
            await _persist(lambda: self._report(pod, "Running"))
        elif pod.is_of_a_job and self.job_seconds is not None and pod.metadata.uid not in self._ending:
            self._ending.add(pod.metadata.uid)
            tasks.create_task(self._end_after(self.job_seconds, pod))

    async def _bind(self, pod: Pod) -> None:
        wanted = pod.wanted_nodes
        node = (
            next((name for name in wanted if name in self.nodes), None) if wanted else next(self._next_node)
        )
        if node is not None:
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            metadata = {"name": pod.metadata.name, "uid": pod.metadata.uid}
            await self.api.request("POST", f"{pod.path}/binding", {"metadata": metadata, "target": target})

    async def _report(self, pod: Pod, phase: Phase) -> None:
        status = report(pod, phase, self._digests(), _now())
        body = {"metadata": {"uid": pod.metadata.uid}, "status": status}
        await self.api.merge_patch(f"{pod.path}/status", body)

    async def _end_after(self, seconds: float, pod: Pod) -> None:
        await asyncio.sleep(seconds)  # the Job's work
        await _persist(lambda: self._report(pod, "Succeeded"))
        self._ending.discard(pod.metadata.uid)

    async def _remove(self, pod: Pod) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.metadata.uid}}
        await self.api.request("DELETE", pod.path, options)

    def _digests(self) -> dict[str, str]:
        if self.images is None:
            return {}
        return msgspec.json.decode(self.images.read_bytes(), type=dict[str, str])


async def _persist(call: Callable[[], Awaitable[None]]) -> None:
    """Make the call until the API server has taken or refused it."""
    while True:
        try:
            await call()
        except ApiError as error:
            if error.status not in OVERLOADED:
                if error.status not in MOVED_ON:
                    print(f"refused: {error}", flush=True)
                return
        except (aiohttp.ClientError, TimeoutError) as error:
            print(f"API server away: {error!r}", flush=True)
        else:
            return
        await asyncio.sleep(RETRY_DELAY)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _node(name: str) -> dict[str, Any]:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def _node_status(now: str) -> dict[str, Any]:
    capacity = {"cpu": "64", "memory": "256Gi", "pods": "5000", "ephemeral-storage": "1Ti"}
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", **times}],
        "addresses": [{"type": "InternalIP", "address": "192.0.2.10"}],
    }


async def main(arguments: argparse.Namespace) -> None:
    """Run with the command line's settings until killed."""
    nodes = [f"node-{number}" for number in range(1, arguments.nodes + 1)]
    job_seconds = None if arguments.jobs_never_end else arguments.job_seconds
    async with KubeApi(arguments.kubeconfig) as api:
        kubelet = Kubelet(api, nodes, arguments.images, job_seconds, arguments.but_not)
        await kubelet.run(arguments.ready_file.touch if arguments.ready_file else lambda: None)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--images", type=Path, help="JSON file: image reference to digest")
    parser.add_argument("--job-seconds", type=float, default=0.5, help="how long a Job's Pod runs")
    parser.add_argument("--jobs-never-end", action="store_true", help="a Job's Pods run for ever")
    parser.add_argument("--but-not", default="", metavar="NAMESPACE", help="leave its Pods alone")
    parser.add_argument("--ready-file", type=Path, help="made when the nodes are registered")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(parse_arguments()))
