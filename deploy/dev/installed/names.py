"""Names and cluster addresses of Services, as DNS and kube-proxy would give them.

One hosts file, mounted into every container and rewritten as Services and endpoints change; and for each cluster
address a listener that passes connections on to a ready endpoint in turn, as kube-proxy does for new connections.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from deploy.dev.installed.containers import Json
from deploy.dev.kubeapi import KubeApi

CHUNK = 64 * 1024

SERVICE_LABEL = "kubernetes.io/service-name"


class Names:
    """Of the Services of one namespace."""

    def __init__(self, api: KubeApi, namespace: str, hosts: Path) -> None:
        self._api = api
        self._namespace = namespace
        self._hosts = hosts
        self._slices: list[Json] = []
        self._listeners: dict[tuple[str, int], asyncio.Server] = {}
        self._turn = asyncio.Lock()
        self._turns: Iterator[int] = itertools.count()
        self.services: list[Json] = []
        hosts.write_text(hosts_file([], [], namespace))

    async def refresh(self) -> None:
        """Read everything anew."""
        async with self._turn:  # Services and endpoints are watched apart
            await self._refresh()

    async def _refresh(self) -> None:
        self.services = await self._list(f"/api/v1/namespaces/{self._namespace}/services")
        self._slices = await self._list(
            f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"
        )
        # In place: the containers hold this very file.
        with self._hosts.open("r+") as file:
            file.write(hosts_file(self.services, self._slices, self._namespace))
            file.truncate()
        wanted = {
            (service["spec"]["clusterIP"], port["port"]): (service["metadata"]["name"], port.get("name", ""))
            for service in self.services
            if service["spec"].get("clusterIP", "None") != "None"
            for port in service["spec"]["ports"]
        }
        for gone in self._listeners.keys() - wanted.keys():
            self._listeners.pop(gone).close()
        for (address, port), (service, name) in wanted.items():
            if (address, port) not in self._listeners:
                self._listeners[address, port] = await self._listen(address, port, service, name)

    async def _list(self, path: str) -> list[Json]:
        items: list[Json] = msgspec.json.decode(await self._api.request("GET", path))["items"]
        return items

    async def _listen(self, address: str, port: int, service: str, name: str) -> asyncio.Server:
        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ready = ready_endpoints(self._slices, service, name)
            try:
                if not ready:
                    return
                host, target = ready[next(self._turns) % len(ready)]
                with suppress(OSError):  # whoever is refused or cut off sees the end of his connection
                    await _join(reader, writer, *await asyncio.open_connection(host, target))
            finally:
                writer.close()

        return await asyncio.start_server(accepted, address, port)


def hosts_file(services: Sequence[Json], slices: Sequence[Json], namespace: str) -> str:
    """Services by cluster address, headless ones by their endpoints, and the Pods that a headless one names."""
    lines = ["127.0.0.1 localhost"]
    for service in services:
        name, address = service["metadata"]["name"], service["spec"].get("clusterIP", "None")
        if address != "None":
            lines.append(f"{address} {_all_names(name, namespace)}")
    for each in slices:
        service_name = each["metadata"]["labels"].get(SERVICE_LABEL, "")
        is_headless = any(
            s["metadata"]["name"] == service_name and s["spec"].get("clusterIP") == "None" for s in services
        )
        for endpoint in each.get("endpoints") or [] if is_headless else []:
            if not endpoint["conditions"].get("ready"):
                continue
            address = endpoint["addresses"][0]
            lines.append(f"{address} {_all_names(service_name, namespace)}")
            if "hostname" in endpoint:
                lines.append(f"{address} {_all_names(endpoint['hostname'] + '.' + service_name, namespace)}")
    return "\n".join(lines) + "\n"


def ready_endpoints(slices: Sequence[Json], service: str, port: str) -> list[tuple[str, int]]:
    """Where connections to a Service's port go."""
    return [
        (endpoint["addresses"][0], each_port["port"])
        for each in slices
        if each["metadata"]["labels"].get(SERVICE_LABEL) == service
        for each_port in each.get("ports") or []
        if (each_port.get("name") or "") == port
        for endpoint in each.get("endpoints") or []
        if endpoint["conditions"].get("ready")
    ]


def _all_names(name: str, namespace: str) -> str:
    suffixes = ("", f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.cluster.local")
    return " ".join(name + suffix for suffix in suffixes)


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    try:
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
    finally:
        far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, to its end."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
