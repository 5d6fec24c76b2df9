"""The few calls the embedded control plane itself makes to its API server: request, list, watch.

Raw HTTP with small typed answers, because the stand-in for the kubelet handles every Pod of every test
and a full client takes a second to import. It reads only the kubeconfig files that `credentials` writes
(JSON, a CA file, a token). The services have their own adapters.
"""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

LINE_LIMIT = 8 * 1024 * 1024
"""Bytes of one watch event: well over the largest object etcd takes (1.5 MiB)."""

WATCH_SECONDS = 300
"""A watch ends by itself after this; the caller goes on from the last resource version."""

FIRST_ERROR = 400
GONE = 410


class ApiError(RuntimeError):
    """The API server refused; `status` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class ConnectionSettings(msgspec.Struct, frozen=True):
    """What a kubeconfig file of ours says."""

    server: str
    ca_file: str
    token: str


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch; `object` is decoded by whoever knows its kind."""

    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct, frozen=True):
    message: str = ""
    code: int = 0


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str
    certificate_authority: str


class _NamedCluster(msgspec.Struct, frozen=True):
    cluster: _Cluster


class _User(msgspec.Struct, frozen=True):
    token: str


class _NamedUser(msgspec.Struct, frozen=True):
    user: _User


class _Kubeconfig(msgspec.Struct, frozen=True):
    clusters: list[_NamedCluster]
    users: list[_NamedUser]


def read_kubeconfig(path: Path) -> ConnectionSettings:
    """The connection settings of a kubeconfig file of ours."""
    config = msgspec.json.decode(path.read_bytes(), type=_Kubeconfig)
    cluster = config.clusters[0].cluster
    return ConnectionSettings(cluster.server, cluster.certificate_authority, config.users[0].user.token)


class KubeApi:
    """One identity's connection to the API server; use as an async context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        settings = read_kubeconfig(kubeconfig)
        self._session = aiohttp.ClientSession(
            settings.server,
            headers={"Authorization": f"Bearer {settings.token}"},
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=settings.ca_file)),
            timeout=aiohttp.ClientTimeout(total=30),
            read_bufsize=LINE_LIMIT,
        )

    async def request(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json"
    ) -> bytes:
        """The answer's body; raises ApiError from 400 on."""
        data = None if body is None else msgspec.json.encode(body)
        async with self._session.request(
            method, path, data=data, headers={"Content-Type": content_type}
        ) as answer:
            content = await answer.read()
            if answer.status >= FIRST_ERROR:
                raise ApiError(answer.status, _message(content))
            return content

    async def merge_patch(self, path: str, body: object) -> bytes:
        """Change the named fields, whatever the rest is."""
        return await self.request("PATCH", path, body, content_type="application/merge-patch+json")

    async def watch(self, path: str, resource_version: str) -> AsyncIterator[WatchEvent]:
        """Events after the resource version until the server ends the watch; raises ApiError(410) when that is too old."""
        query = {
            "watch": "1",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30)
        async with self._session.get(path, params=query, timeout=timeout) as answer:
            if answer.status >= FIRST_ERROR:
                raise ApiError(answer.status, _message(await answer.read()))
            async for line in answer.content:
                event = msgspec.json.decode(line, type=WatchEvent)
                if event.type == "ERROR":
                    status = msgspec.json.decode(event.object, type=_Status)
                    raise ApiError(status.code, status.message)
                yield event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()


def _message(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=_Status).message
    except msgspec.DecodeError:  # a proxy's or an early handler's plain text
        return content.decode(errors="replace")
