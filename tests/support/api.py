"""The API server as the tests ask it where kubectl would be too slow or too kind: status, warnings, Retry-After.

kubectl repeats what it is told to repeat and takes a tenth of a second to start; here one request is one
answer. And the manifests of Moorgate's own resources, limited to what the test is about.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from deploy.dev.kubeapi import read_kubeconfig

GROUP = "/apis/security.banzaicloud.com/v1alpha1"
POLICIES, WHITELIST = f"{GROUP}/imagepolicies", f"{GROUP}/whitelistitems"

JSON_PATCH, MERGE, STRATEGIC = (
    f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch")
)

_WARNING = '299 - "'


@dataclass(frozen=True)
class Reply:
    """One answer of the API server."""

    status: int
    body: dict[str, Any]
    warnings: tuple[str, ...]
    """Of Moorgate; Kubernetes has its own."""
    retry_after: str | None

    @property
    def message(self) -> str:
        """Why not; empty where it was granted."""
        return str(self.body.get("message", "")) if self.status >= 400 else ""


class Api:
    """One identity's requests; an async context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        settings = read_kubeconfig(kubeconfig)
        tls = ssl.create_default_context(cafile=settings.ca_file)
        self._session = aiohttp.ClientSession(
            settings.server,
            headers={"Authorization": f"Bearer {settings.token}"},
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        dry_run: bool = False,
    ) -> Reply:
        """One request, whatever the answer."""
        async with self._session.request(
            method,
            path,
            data=None if body is None else msgspec.json.encode(body),
            params={"dryRun": "All"} if dry_run else None,
            headers={"Content-Type": content_type},
        ) as answer:
            warnings = [
                each.removeprefix(_WARNING).rstrip('"') for each in answer.headers.getall("Warning", ())
            ]
            return Reply(
                status=answer.status,
                body=msgspec.json.decode(await answer.read()),
                warnings=tuple(each for each in warnings if each.startswith("moorgate:")),
                retry_after=answer.headers.get("Retry-After"),
            )

    async def ok(self, method: str, path: str, body: object = None, **options: Any) -> dict[str, Any]:
        """The answer's body; fails where it was refused."""
        reply = await self.send(method, path, body, **options)
        assert reply.status < 300, f"{method} {path}: {reply.status} {reply.message}"
        return reply.body

    async def create_pod(self, namespace: str, manifest: dict[str, Any], *, dry_run: bool = False) -> Reply:
        """One attempt, without a client's own repetitions."""
        return await self.send("POST", pods(namespace), manifest, dry_run=dry_run)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()


def pods(namespace: str, name: str = "") -> str:
    """Where Pods are."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return f"{path}/{name}" if name else path


def image_policy(name: str, **spec: Any) -> dict[str, Any]:
    """An ImagePolicy; without a `namespaceSelector` it would be everybody's."""
    return {
        "apiVersion": "security.banzaicloud.com/v1alpha1",
        "kind": "ImagePolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def only_in(**labels: str) -> dict[str, Any]:
    """A namespaceSelector; `_` stands for `.` and `__` for `/` in the keys."""
    return {"matchLabels": {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}}


def whitelist_item(name: str, **spec: Any) -> dict[str, Any]:
    """A WhiteListItem."""
    return {
        "apiVersion": "security.banzaicloud.com/v1alpha1",
        "kind": "WhiteListItem",
        "metadata": {"name": name},
        "spec": {"creator": "a test", "reason": "a test", **spec},
    }
