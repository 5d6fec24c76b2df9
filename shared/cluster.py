"""The API server, spoken to in JSON: get, list in pages, create, apply, delete, watch.

kubernetes-asyncio finds the cluster (kubeconfig or in-cluster, tokens renewed, exec plugins) and holds
the connections; objects go through small Structs of ours, which costs a third of its generated models'
CPU, and without these models (shared/kubernetes_parts.py). It is imported by `open_cluster` alone: a process without
a cluster spares it.
Answers become errors by what they mean: `Unavailable` (no answer, 429, 5xx, with Retry-After), `Conflict`
(409), `Refused` (other 4xx).
"""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
import yaml

from shared.errors import BadSetting, Conflict, Refused, Unavailable
from shared.proxies import has_proxy

if TYPE_CHECKING:
    from shared.kubernetes_parts import Configuration

REQUEST_TIMEOUT = 10.0
"""Seconds for one request: kubernetes-asyncio's default is none at all."""

LONGEST_RETRY_AFTER = 60.0
"""Seconds a Retry-After can ask for at most: a proxy's slip of the pen must not stop us for a day."""

WATCH_SILENCE = 90.0
"""Seconds without a byte after which a watch counts as dead: bookmarks come every minute."""

PAGE = 500
"""Objects a page: what client-go asks for."""

POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a Pod finds its own."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"

_NOT_FOUND, _CONFLICT, _TOO_MANY, _UNAUTHORIZED, _SERVER_ERROR, _ERROR = 404, 409, 429, 401, 500, 400

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.:]{0,251}[a-z0-9])?", re.ASCII)
"""A DNS subdomain, and the colons that names of RBAC may have."""

T = TypeVar("T")


def object_path(collection: str, name: str) -> str:
    """Where one object of a collection is. Raises `BadSetting` for what can be no name.

    An empty name, or a dot, would be the collection: a DELETE of it takes everything.
    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
    """
    if not _NAME.fullmatch(name):
        raise BadSetting(f"{name!a} is no name of an object: it has 1 to 253 characters of a-z, 0-9, - and .")
    return f"{collection}/{quote(name, safe='')}"


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Where a list stands in time, and how to go on reading it."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Listed(Protocol):
    """A page of a list."""

    @property
    def metadata(self) -> ListMeta:
        """How to go on."""


L = TypeVar("L", bound=Listed)


async def pages(
    cluster: "Cluster", path: str, decode: Callable[[bytes], L], **query: str
) -> AsyncIterator[L]:
    """Every page of a list, `PAGE` objects each unless `limit` says otherwise.

    Raises like `Cluster.request`, and what `decode` raises of an answer that is no such page.
    """
    asked = {"limit": str(PAGE), **query}
    while True:
        page = decode(await cluster.request("GET", path, query=asked))
        yield page
        if not page.metadata.continue_:
            return
        asked["continue"] = page.metadata.continue_


class _Status(msgspec.Struct, frozen=True):
    message: str = ""


READ_BUFFER = 2**21
"""Bytes: a line of a watch is an object, and the API server takes those of 1.5 MiB."""


class Cluster:
    """One API server. Made by `open_cluster`."""

    def __init__(self, configuration: "Configuration") -> None:
        from shared.kubernetes_parts import RESTClientObject  # noqa: PLC0415  only where there is a cluster

        self._configuration = configuration
        self._host = str(configuration.host).rstrip("/")
        made: aiohttp.ClientSession = RESTClientObject(configuration).pool_manager
        self._session = aiohttp.ClientSession(
            connector=made.connector, read_bufsize=READ_BUFFER, trust_env=has_proxy(self._host)
        )
        made.detach()  # it would read the environment for each request

    async def get(
        self,
        path: str,
        decoder: "msgspec.json.Decoder[T]",
        query: Mapping[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109  one bound for the whole exchange
    ) -> T | None:
        """The object, or None where there is none. Raises `Unavailable`, `Refused`."""
        try:
            return decoder.decode(await self.request("GET", path, query=query, timeout=timeout))
        except Refused as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    async def create(self, path: str, body: msgspec.Struct) -> bytes:
        """POST the object to a collection. Raises `Conflict` where the name is taken."""
        return await self.request("POST", path, body=msgspec.json.encode(body))

    async def apply(self, path: str, body: msgspec.Struct, manager: str) -> bytes:
        """Server-side apply, by force: fields of ours are ours.

        With uid and resourceVersion in `body` it changes only what was read; without them it is an upsert.
        Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
        """
        query = {"fieldManager": manager, "force": "true"}
        return await self.request(
            "PATCH", path, query=query, body=msgspec.json.encode(body), content_type=APPLY
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        timeout: float = REQUEST_TIMEOUT,  # noqa: ASYNC109  one bound for the whole exchange, body included
    ) -> bytes:
        """One request; gives the body of the answer. Raises `Unavailable`, `Conflict`, `Refused`."""
        limits = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._open(
                method, path, limits=limits, query=query, body=body, content_type=content_type
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("kubernetes", f"{method} {path}: {type(error).__name__} {error}") from error
        _check(response, answer, f"{method} {path}")
        return answer

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The lines of a watch, until the server ends it. Raises like `request`."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT, sock_read=WATCH_SILENCE)
        try:
            async with self._open("GET", path, limits=limits, query={"watch": "true", **query}) as response:
                if response.status >= _ERROR:
                    _check(response, await response.read(), f"watch {path}")
                async for line in response.content:
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("kubernetes", f"watch {path}: {type(error).__name__} {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    @contextlib.asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        limits: aiohttp.ClientTimeout,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": JSON, "User-Agent": "moorgate"}
        if body is not None:
            headers["Content-Type"] = content_type
        for setting in (await self._configuration.auth_settings()).values():
            headers[setting["key"]] = setting["value"]
        options: dict[str, Any] = {}
        if self._configuration.tls_server_name:
            options["server_hostname"] = self._configuration.tls_server_name
        async with self._session.request(
            method, self._host + path, params=query, data=body, headers=headers, timeout=limits, **options
        ) as response:
            yield response


@contextlib.asynccontextmanager
async def open_cluster(context: str | None = None) -> AsyncIterator[Cluster]:
    """The cluster of `KUBECONFIG` (or `~/.kube/config`), else the one this Pod runs in. Raises `BadSetting`.

    `context`: one of the kubeconfig's contexts; None: the current one.
    """
    from shared.kubernetes_parts import Configuration, config  # noqa: PLC0415  only where there is a cluster

    configuration = Configuration()
    with _said_of_kubeconfig():
        given = os.environ.get("KUBECONFIG")  # the library reads it once, when it is imported
        if given or (Path.home() / ".kube" / "config").exists():
            await config.load_kube_config(
                config_file=given, context=context, client_configuration=configuration
            )
        elif context:
            raise BadSetting(f"no cluster: there is no kubeconfig with a context {context!r}; set KUBECONFIG")
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # untyped there
        cluster = Cluster(configuration)
    try:
        yield cluster
    finally:
        await cluster.close()
        await asyncio.sleep(0)


def current_namespace(context: str | None = None) -> str:
    """Where who names no namespace looks: that of the kubeconfig's context, or of this Pod. Raises `BadSetting`."""
    from shared.kubernetes_parts import config  # noqa: PLC0415  only where there is a cluster

    given = os.environ.get("KUBECONFIG")
    with _said_of_kubeconfig():
        if given or (Path.home() / ".kube" / "config").exists():
            contexts, active = config.list_kube_config_contexts(given)
            chosen = next((each for each in contexts if each["name"] == context), None) if context else active
            return str(((chosen or {}).get("context") or {}).get("namespace") or "default")
        return POD_NAMESPACE.read_text(encoding="utf-8").strip() if POD_NAMESPACE.exists() else "default"


@contextlib.contextmanager
def _said_of_kubeconfig() -> Iterator[None]:
    """One line for whatever is wrong with a kubeconfig. Raises `BadSetting`.

    The library takes it apart without a look at its shape; the file holds credentials, so its text is not shown.
    """
    from shared.kubernetes_parts import config  # noqa: PLC0415  only where there is a cluster

    try:
        yield
    except (config.ConfigException, OSError) as error:
        raise BadSetting(f"no cluster: {error}; set KUBECONFIG or run inside one") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        where = os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise BadSetting(
            f"no cluster: {where} is no kubeconfig ({type(error).__name__}); see kubectl config view"
        ) from None


def _check(response: aiohttp.ClientResponse, answer: bytes, what: str) -> None:
    status = response.status
    if status < _ERROR:
        return
    message = f"{what}: HTTP {status} {_message(answer)}"
    if status == _CONFLICT:
        raise Conflict(message)
    if status in (_TOO_MANY, _UNAUTHORIZED) or status >= _SERVER_ERROR:
        raise Unavailable("kubernetes", message, delay=_retry_after(response))
    raise Refused(status, message)


def _message(answer: bytes) -> str:
    try:
        return msgspec.json.decode(answer, type=_Status).message
    except msgspec.MsgspecError:
        return answer[:200].decode(errors="replace")


def _retry_after(response: aiohttp.ClientResponse) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), LONGEST_RETRY_AFTER) if value.isdecimal() else 1.0
