"""Which API a server speaks is found out by asking it: v2 before v1, once, and again after it was away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.scanner.anchore_v1 import AnchoreV1
from services.scanner.anchore_v2 import AnchoreV2
from services.scanner.calls import Calls
from services.scanner.detection import DetectingAnchore, client
from services.scanner.failures import ScanFailed, TryAgain
from services.scanner.metrics import ScannerMetrics
from shared import images
from shared.anchore import AnchoreApi, AnchoreHttp, AnchoreSettings, open_session
from shared.errors import Unavailable
from shared.settings import Secret
from tests.support.anchore import anchore
from tests.support.anchore_client import NOT_UNDERSTOOD, UNAUTHORIZED, Sent, always, calls_of, outcome

TAGGED = images.parse("registry.example/bulk/a:1")


class Server:
    """Speaks these APIs now, or gives one answer to everything."""

    def __init__(self, *apis: str) -> None:
        self.apis = apis
        self.status = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0)
        if self.status:
            return web.Response(status=self.status)
        _, api, what = request.path.split("/")[:3]
        if api not in self.apis:
            return web.json_response({"message": "no such path"}, status=404)
        return web.json_response({"service": {}} if what == "version" else [])


@asynccontextmanager
async def detecting(server: Server) -> AsyncIterator[tuple[DetectingAnchore, list[Sent]]]:
    async with calls_of(server.answer) as (calls, journal):
        found = client(AnchoreApi.AUTO, calls)
        assert isinstance(found, DetectingAnchore)
        yield found, journal


def asked(journal: list[Sent]) -> list[str]:
    paths = [sent.path for sent in journal]
    journal.clear()
    return paths


@pytest.mark.parametrize(
    ("apis", "expected"),
    [
        (("v1", "v2"), ["/v2/version", "/v2/policies"]),
        (("v2",), ["/v2/version", "/v2/policies"]),
        (("v1",), ["/v2/version", "/v1/version", "/v1/policies"]),
    ],
)
async def test_the_later_api_comes_first_and_is_asked_for_once(
    apis: tuple[str, ...], expected: list[str]
) -> None:
    async with detecting(Server(*apis)) as (found, journal):
        assert await found.bundles() == []
        assert asked(journal) == expected
        await found.bundles()
        assert asked(journal) == expected[-1:]


@pytest.mark.parametrize("apis", [("v1", "v2"), ("v2",), ("v1",)])
async def test_the_simulators_apis_are_told_apart(apis: tuple[str, ...]) -> None:
    async with anchore(apis=apis) as simulator:
        settings = AnchoreSettings(url=simulator.url, username="admin", password=Secret("foobar"))
        async with open_session(settings) as session:
            calls = Calls(AnchoreHttp(session, settings), ScannerMetrics(CollectorRegistry()))
            found = DetectingAnchore(calls)
            await found.add_image(TAGGED)
            image = await found.add_image(TAGGED)
            assert await found.image(image.digest) == image
            [bundle] = await found.bundles()
            assert (await found.check(image.digest, TAGGED, bundle.bundle_id)).result.value == "pass"
            assert isinstance(found._found, AnchoreV2 if "v2" in apis else AnchoreV1)


async def test_a_server_of_neither_is_no_anchore() -> None:
    async with detecting(Server()) as (found, journal):
        with pytest.raises(ScanFailed, match="neither /v2/version nor /v1/version"):
            await found.bundles()
        assert asked(journal) == ["/v2/version", "/v1/version"]
        await outcome(found.add_image(TAGGED))
        assert asked(journal) == ["/v2/version", "/v1/version"], "nothing was found, so it is asked again"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, UNAUTHORIZED),
        (403, UNAUTHORIZED),
        (500, "TryAgain"),
        (503, "Unavailable"),
        (302, NOT_UNDERSTOOD),
        (400, NOT_UNDERSTOOD),
        (204, NOT_UNDERSTOOD),
    ],
)
async def test_an_answer_that_tells_nothing_settles_nothing(status: int, expected: str) -> None:
    server = Server("v2")
    server.status = status
    async with detecting(server) as (found, journal):
        assert await outcome(found.bundles()) == expected
        assert asked(journal) == ["/v2/version"], "v1 is not tried: that would be a guess"
        server.status = 0
        assert await outcome(found.bundles()) == "bundles active=None of 0"


@pytest.mark.parametrize("body", [b"", b"[]", b'"v2"', b"<html>welcome</html>", b"[" * 100_000, b"\xff"])
async def test_a_page_for_everything_is_no_version(body: bytes) -> None:
    """As a proxy or a web site gives."""
    async with calls_of(always(200, body)) as (calls, _):
        assert await outcome(DetectingAnchore(calls).bundles()) == NOT_UNDERSTOOD


async def test_the_first_calls_at_once_ask_once() -> None:
    async with detecting(Server("v1")) as (found, journal):
        await asyncio.gather(*(found.bundles() for _ in range(20)))
        paths = asked(journal)
    assert (paths.count("/v2/version"), paths.count("/v1/version"), len(paths)) == (1, 1, 22)


async def test_a_first_call_given_up_does_not_keep_others_from_asking() -> None:
    async with detecting(Server("v1")) as (found, _):
        first = asyncio.create_task(found.bundles())
        second = asyncio.create_task(found.bundles())
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.wait_for(second, 5) == []


@pytest.mark.parametrize("status", [503, 0])
async def test_a_server_replaced_is_found_out_by_its_next_answers(status: int) -> None:
    """With an outage in between, or without one: then the old API's paths are gone."""
    server = Server("v1")
    async with detecting(server) as (found, _):
        await found.bundles()
        server.apis = ("v2",)
        server.status = status
        with pytest.raises(Unavailable if status else ScanFailed):
            await found.bundles()
        server.status = 0
        assert await found.bundles() == []
        assert isinstance(found._found, AnchoreV2)


@pytest.mark.parametrize("status", [401, 500])
async def test_an_error_that_passes_changes_nothing(status: int) -> None:
    server = Server("v1")
    async with detecting(server) as (found, journal):
        await found.bundles()
        server.status = status
        with pytest.raises((ScanFailed, TryAgain)):
            await found.bundles()
        server.status = 0
        asked(journal)
        await found.bundles()
        assert asked(journal) == ["/v1/policies"]


async def test_a_named_api_is_not_asked_for() -> None:
    async with calls_of(always(200, [])) as (calls, journal):
        for api in (AnchoreApi.V1, AnchoreApi.V2):
            await client(api, calls).bundles()
    assert asked(journal) == ["/v1/policies", "/v2/policies"]
