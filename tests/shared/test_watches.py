"""Following a kind of object, against a small fake of the API server's list and watch."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shared import watches
from shared.cluster import Cluster
from shared.crds import WHITELIST_PATH, WhiteListItem
from shared.errors import Conflict, Refused, Unavailable
from shared.kubernetes_parts import Configuration
from shared.watches import Watch

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def item(name: str, version: int = 1, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.banzaicloud.com/v1alpha1",
        "kind": "WhiteListItem",
        "metadata": {"name": name, "resourceVersion": str(version)},
        "spec": {"creator": "ops", "reason": "known", **spec},
    }


class Log:
    """A feed that remembers; it is the test's view of what the gateway would know."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lists = 0
        self.last: WhiteListItem | None = None
        self._changed = asyncio.Event()

    def replace(self, items: list[WhiteListItem]) -> None:
        self.names = {each.metadata.name for each in items}
        self.lists += 1
        self._changed.set()

    def put(self, item: WhiteListItem) -> None:
        self.names.add(item.metadata.name)
        self.last = item
        self._changed.set()

    def remove(self, item: WhiteListItem) -> None:
        self.names.discard(item.metadata.name)
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class ApiServer:
    """Answers lists and watches from scripts; when a script is used up a watch stays open and quiet."""

    def __init__(self) -> None:
        self.lists: list[Reply] = []
        self.watches: list[Reply] = []
        self.queries: list[dict[str, str]] = []
        self.arrived: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.queries.append(query)
        self.arrived.put_nowait(query)
        script = self.watches if "watch" in query else self.lists
        if script:
            return await script.pop(0)(request)
        if "watch" in query:
            return await stream(hold=True)(request)
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

    async def next_watch(self) -> dict[str, str]:
        """The query of the next watch that comes in."""
        async with asyncio.timeout(5):
            while True:
                query = await self.arrived.get()
                if "watch" in query:
                    return query


def page(*items: Any, version: str = "10", more: str = "") -> Reply:
    async def reply(_: web.Request) -> web.Response:
        metadata = {"resourceVersion": version, **({"continue": more} if more else {})}
        return web.json_response({"kind": "WhiteListItemList", "metadata": metadata, "items": list(items)})

    return reply


def event(kind: str, object_: Any) -> bytes:
    return json.dumps({"type": kind, "object": object_}).encode() + b"\n"


def stream(*chunks: bytes, hold: bool = False, tear: bool = False) -> Reply:
    """A watch that sends these bytes, then ends, stays open, or breaks."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if hold:
            await asyncio.Event().wait()
        if tear and request.transport:
            request.transport.abort()
        return response

    return reply


def status(code: int, **headers: str) -> Reply:
    async def reply(_: web.Request) -> web.Response:
        return web.json_response(
            {"kind": "Status", "message": "no", "code": code}, status=code, headers=headers
        )

    return reply


def text(body: str) -> Reply:
    async def reply(_: web.Request) -> web.Response:
        return web.Response(text=body)

    return reply


@pytest.fixture
def api() -> ApiServer:
    return ApiServer()


@asynccontextmanager
async def cluster_of(api: ApiServer) -> AsyncIterator[Cluster]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    async with TestServer(app, handler_cancellation=True, shutdown_timeout=0.1) as server:
        cluster = Cluster(Configuration(host=str(server.make_url(""))))
        try:
            yield cluster
        finally:
            await cluster.close()


@asynccontextmanager
async def watching(api: ApiServer, selector: str = "") -> AsyncIterator[tuple[Log, Watch[WhiteListItem]]]:
    async with cluster_of(api) as cluster:
        log = Log()
        watch = Watch(cluster, WHITELIST_PATH, WhiteListItem, log, selector=selector)
        task = asyncio.create_task(watch.run())
        try:
            yield log, watch
            assert not task.done(), "the watch must never end by itself"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "FIRST_WAIT", 0.01)


async def test_everything_is_listed_in_pages_then_watched_from_there(api: ApiServer) -> None:
    api.lists = [page(item("a"), item("b"), more="next-page"), page(item("c"), version="12")]
    api.watches = [stream(event("ADDED", item("d", 13)), event("DELETED", item("a", 14)), hold=True)]
    async with watching(api) as (log, watch):
        await asyncio.wait_for(watch.ready.wait(), 5)
        assert log.lists == 1
        await log.until(lambda: log.names == {"b", "c", "d"})
    first, second, watched = api.queries
    assert first == {"limit": "500"}
    assert second == {"limit": "500", "continue": "next-page"}
    assert (watched["resourceVersion"], watched["allowWatchBookmarks"]) == ("12", "true")
    assert int(watched["timeoutSeconds"]) > 0


async def test_only_what_has_the_labels_is_listed_and_watched(api: ApiServer) -> None:
    api.lists = [page(item("a"), more="next-page"), page(item("b"), version="12")]
    async with watching(api, "complete=false"):
        await api.next_watch()
    assert [each.get("labelSelector") for each in api.queries] == ["complete=false"] * 3


async def test_a_watch_that_ends_is_resumed_from_what_was_seen_last(api: ApiServer) -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "40"}})
    api.lists = [page(version="10")]
    api.watches = [
        stream(event("ADDED", item("a", 11))),
        stream(event("MODIFIED", item("a", 20, regexp="x")), bookmark),
    ]
    async with watching(api) as (log, _):
        versions = [(await api.next_watch())["resourceVersion"] for _ in range(3)]
        assert versions == ["10", "11", "40"]
        assert (log.names, log.lists) == ({"a"}, 1)
        assert log.last is not None
        assert log.last.spec.regexp == "x"


async def test_a_watch_that_breaks_is_begun_again(api: ApiServer) -> None:
    api.lists = [page(version="10")]
    api.watches = [
        stream(event("ADDED", item("a", 11)), tear=True),
        status(500),
        status(429, **{"Retry-After": "1"}),
        stream(event("ADDED", item("b", 12)), hold=True),
    ]
    async with watching(api) as (log, _):
        await log.until(lambda: log.names == {"a", "b"})
        assert log.lists == 1


GONE = {"kind": "Status", "code": 410, "message": "too old resource version"}


@pytest.mark.parametrize("gone", [stream(event("ERROR", GONE)), status(410)], ids=["event", "status"])
async def test_what_is_too_old_is_listed_anew(api: ApiServer, gone: Reply) -> None:
    api.lists = [page(item("old"), version="10"), page(item("new"), version="90")]
    api.watches = [gone, stream(hold=True)]
    async with watching(api) as (log, _):
        await log.until(lambda: log.names == {"new"})
        assert log.lists == 2
        await api.next_watch()
        assert (await api.next_watch())["resourceVersion"] == "90"


async def test_a_list_that_grows_too_old_between_pages_is_begun_again(api: ApiServer) -> None:
    api.lists = [page(item("a"), more="x"), status(410), page(item("b"), version="20")]
    async with watching(api) as (log, watch):
        await asyncio.wait_for(watch.ready.wait(), 5)
        assert (log.names, log.lists) == ({"b"}, 1), "nothing is told before the list is whole"


ODD = [
    {"metadata": {"name": "odd"}},
    {"metadata": {"name": "odd"}, "spec": {"expiresAt": "never"}},
    {"metadata": None, "spec": {}},
    "odd",
    None,
]


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
async def test_an_object_that_cannot_be_read_does_not_blind_the_watch(api: ApiServer, odd: Any) -> None:
    api.lists = [page(item("a"), odd, item("b"))]
    api.watches = [stream(event("ADDED", odd), event("ADDED", item("c", 20)), hold=True)]
    async with watching(api) as (log, _):
        await log.until(lambda: log.names == {"a", "b", "c"})


async def test_an_object_larger_than_a_read_does_not_end_the_watch(api: ApiServer) -> None:
    """A WhiteListItem may have 1.5 MiB; the line of its event comes in many pieces."""
    images = ["r.example/" + "x" * 200] * 2000
    api.watches = [
        stream(event("ADDED", item("big", 20, images=images)) + event("ADDED", item("next", 21)), hold=True)
    ]
    async with watching(api) as (log, _):
        await log.until(lambda: log.names == {"big", "next"})


@pytest.mark.parametrize("garbage", ["<html>sign in</html>", "", "{}", '{"items": null}', '{"items": 1}'])
async def test_a_list_that_is_none_is_asked_for_again(api: ApiServer, garbage: str) -> None:
    api.lists = [text(garbage), page(item("a"))]
    async with watching(api) as (log, _):
        await log.until(lambda: log.names == {"a"})


@pytest.mark.parametrize(
    "garbage", [b"<html>\n", b"{}\n", b'{"type":"ADDED"', b"\xff\n", b'{"type":"ERROR","object":1}\n']
)
async def test_a_watch_that_is_none_is_begun_again(api: ApiServer, garbage: bytes) -> None:
    api.watches = [stream(garbage), stream(event("ADDED", item("a", 20)), hold=True)]
    async with watching(api) as (log, _):
        await log.until(lambda: log.names == {"a"})


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, Refused),
        (403, Refused),
        (404, Refused),
        (409, Conflict),
        (401, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
    ],
)
async def test_answers_become_errors_by_what_they_mean(
    api: ApiServer, code: int, error: type[Exception]
) -> None:
    api.lists = [status(code, **{"Retry-After": "7"})]
    async with cluster_of(api) as cluster:
        with pytest.raises(error, match=f"HTTP {code} no") as caught:
            await cluster.request("GET", "/x")
    if isinstance(caught.value, Unavailable):
        assert caught.value.delay == 7.0


async def test_no_answer_is_unavailable() -> None:
    cluster = Cluster(Configuration(host="http://127.0.0.1:9"))
    with pytest.raises(Unavailable, match="kubernetes is away"):
        await cluster.request("GET", "/x")
    await cluster.close()
