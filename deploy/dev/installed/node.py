"""The node for one namespace: binds its Pods, runs them, and keeps names and cluster addresses.

`python -m deploy.dev.installed.node --kubeconfig FILE --namespace moorgate --folder F --addresses 10.213.76.0/24`,
as root, beside a stand-in kubelet that leaves the namespace alone. Killed, it takes all its containers with it.
With `--dead` it runs no container: Pods are not Ready, and are only removed when they are deleted; that is a cluster
in which Moorgate is down.
"""

import argparse
import asyncio
import ipaddress
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import msgspec

from deploy.dev.installed.containers import Json
from deploy.dev.installed.names import Names
from deploy.dev.installed.programs import Programs
from deploy.dev.installed.running import RunningPod
from deploy.dev.installed.sources import SourcesReader
from deploy.dev.kubeapi import ApiError, KubeApi, read_kubeconfig

NODES = ("node-1", "node-2")
"""Registered by the stand-in kubelet."""

AGAIN = 0.2
"""Seconds before another list."""

Changed = Callable[[Json, asyncio.TaskGroup], Awaitable[None]]


class Node:
    """Everything that runs in one namespace."""

    def __init__(self, api: KubeApi, arguments: argparse.Namespace) -> None:
        self._api = api
        self._namespace: str = arguments.namespace
        self._folder: Path = arguments.folder
        self._is_dead: bool = arguments.dead
        self._pods: dict[str, RunningPod] = {}
        self._addresses = [str(each) for each in ipaddress.ip_network(arguments.addresses).hosts()]
        self._nodes: Iterator[str] = itertools.cycle(NODES)
        self._names = Names(api, self._namespace, self._folder / "hosts")
        self._sources = SourcesReader(api, self._namespace)
        self._programs = Programs()
        server = read_kubeconfig(arguments.kubeconfig).server.removeprefix("https://")
        host, _, port = server.partition(":")
        self._variables = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}

    async def run(self) -> None:
        """For ever."""
        base = f"/api/v1/namespaces/{self._namespace}"
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"
        async with asyncio.TaskGroup() as tasks:
            if not self._is_dead:
                for path in (f"{base}/services", slices):
                    tasks.create_task(self._follow(path, self._names_changed, tasks))
            tasks.create_task(self._follow(f"{base}/pods", self._pod_changed, tasks))

    async def _follow(self, path: str, changed: Changed, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                listed = msgspec.json.decode(await self._api.request("GET", path))
                for each in listed["items"]:
                    await changed(each, tasks)
                async for event in self._api.watch(path, listed["metadata"]["resourceVersion"]):
                    if event.type != "BOOKMARK":
                        await changed(msgspec.json.decode(event.object), tasks)
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                print(f"{path}: listing again: {error!r}", flush=True)
            await asyncio.sleep(AGAIN)

    async def _names_changed(self, _changed: Json, _tasks: asyncio.TaskGroup) -> None:
        await self._names.refresh()

    async def _pod_changed(self, pod: Json, tasks: asyncio.TaskGroup) -> None:
        uid = pod["metadata"]["uid"]
        is_leaving = "deletionTimestamp" in pod["metadata"]
        if uid in self._pods:
            if is_leaving:
                self._pods[uid].pod["metadata"] |= pod["metadata"]
                self._pods[uid].is_leaving.set()
            return
        if not pod["spec"].get("nodeName"):
            if not is_leaving:
                await self._bind(pod)
            return
        running = RunningPod(
            api=self._api,
            pod=pod,
            folder=self._folder,
            address=self._free_address(),
            variables=self._variables,
            programs=self._programs,
            sources=self._sources,
            is_dead=self._is_dead,
        )
        self._pods[uid] = running
        if is_leaving:
            running.is_leaving.set()
        tasks.create_task(self._keep(uid, running))

    async def _keep(self, uid: str, running: RunningPod) -> None:
        try:
            await running.run()
        finally:
            del self._pods[uid]

    async def _bind(self, pod: Json) -> None:
        metadata = {"name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        target = {"apiVersion": "v1", "kind": "Node", "name": next(self._nodes)}
        path = f"/api/v1/namespaces/{self._namespace}/pods/{metadata['name']}/binding"
        try:
            await self._api.request("POST", path, {"metadata": metadata, "target": target})
        except ApiError as error:
            print(f"not bound: {error}", flush=True)

    def _free_address(self) -> str:
        """Taken in turn: the next Pod must not get what a connection to the last one may still hold."""
        taken = {each.address for each in self._pods.values()}
        while True:
            address = self._addresses.pop(0)
            self._addresses.append(address)
            if address not in taken:
                return address


async def main(arguments: argparse.Namespace) -> None:
    """Run with the command line's settings until killed."""
    arguments.folder.mkdir(parents=True, exist_ok=True)
    async with KubeApi(arguments.kubeconfig) as api:
        await Node(api, arguments).run()


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--folder", type=Path, required=True, help="sockets, volumes, claims and logs")
    parser.add_argument("--addresses", required=True, help="a network on this machine, for Pods")
    parser.add_argument("--dead", action="store_true", help="run no container")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(parse_arguments()))
