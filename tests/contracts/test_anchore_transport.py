"""What any server, however broken, may answer: it costs bounded memory and time, and comes to one of our own errors."""

import asyncio
import gzip
import traceback
import tracemalloc
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.anchore_v1 import AnchoreV1
from services.scanner.calls import Calls
from shared import anchore as transport
from shared import images
from shared.anchore import AnchoreHttp, AnchoreSettings, ErrorBody, Reply, open_session
from shared.errors import MoorgateError, Unavailable
from shared.settings import Secret
from tests.support.anchore_client import NOT_UNDERSTOOD, TRY_AGAIN, always, calls_of, outcome

TAGGED = images.parse("r.example/a:1")
NOW = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
MIB = 1 << 20


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("30", 30.0),
        ("31", 30.0),
        ("9" * 5000, 30.0),
        ("1.5", 1.0),
        ("-5", 1.0),
        ("1e9", 1.0),
        ("nan", 1.0),
        ("inf", 1.0),
        ("soon", 1.0),
        ("7 seconds", 1.0),
        ("\u00b2", 1.0),
        ("Wed, 21 Oct 2026 07:28:12 GMT", 12.0),
        ("Wed, 21 Oct 2026 07:28:12", 12.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 1.0),
        ("Wed, 21 Oct 2026 09:28:12 +0200", 12.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 30.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 30.0),
        ("Wed, 21 Oct 2026 07:28:12 +9999", 1.0),
        ("Wed, 21 Oct 99999 07:28:12 GMT", 1.0),
        ("Wed, 99 Oct 2026 99:99:99 GMT", 1.0),
    ],
)
def test_how_long_a_server_is_left_alone(text: str, seconds: float) -> None:
    assert transport._retry_after(text, NOW) == seconds


@given(st.text() | st.from_regex(r"\w{3}, \d{1,6} \w{3} \d{1,9} \d+:\d+:\d+ [-+]\d{1,30}", fullmatch=True))
def test_no_text_makes_it_long_or_fails(text: str) -> None:
    assert 0 <= transport._retry_after(text, NOW) <= transport.LONGEST_DELAY


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
async def test_the_header_counts_with_each_status_that_says_away(status: int) -> None:
    async with calls_of(always(status, b"", Retry_After="7")) as (calls, _):
        with pytest.raises(Unavailable) as away:
            await AnchoreV1(calls).bundles()
    assert away.value.delay == 7


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirection_is_followed(status: int) -> None:
    for location in ("/v1/images", "https://elsewhere.example/", "file:///etc/passwd", "nonsense"):
        async with calls_of(always(status, b"[]", Location=location)) as (calls, journal):
            assert await outcome(AnchoreV1(calls).bundles()) == NOT_UNDERSTOOD
            assert await outcome(AnchoreV1(calls).add_image(TAGGED)) == NOT_UNDERSTOOD
        assert len(journal) == 2


@pytest.mark.parametrize("status", [200, 400, 404, 500, 503])
async def test_an_answer_too_large_is_refused_whatever_its_status(status: int) -> None:
    async with calls_of(always(status, b" " * (transport.MAX_ANSWER + 1))) as (calls, _):
        assert await outcome(AnchoreV1(calls).bundles()) == NOT_UNDERSTOOD


async def test_the_largest_answer_is_taken() -> None:
    body = b"[" + b" " * (transport.MAX_ANSWER - 2) + b"]"
    for more in ({}, {"Content_Encoding": "gzip"}):
        data = gzip.compress(body) if more else body
        async with calls_of(always(200, data, **more)) as (calls, _):
            assert await AnchoreV1(calls).bundles() == []


def bomb(mebibytes: int, encoding: str) -> bytes:
    """Zeros, a thousandth of their size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(mebibytes)), packer.flush()])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("status", [200, 500, 503])
async def test_an_answer_that_unpacks_without_end_costs_little(encoding: str, status: int) -> None:
    body = bomb(512, encoding)
    assert len(body) < MIB

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Content-Encoding": encoding})

    async with calls_of(answer) as (calls, _):
        tracemalloc.start()
        try:
            assert await outcome(AnchoreV1(calls).bundles()) in {NOT_UNDERSTOOD, "Unavailable"}
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 6 * transport.MAX_ANSWER, f"{peak / MIB:.0f} MiB"


BODIES: list[Any] = [
    [],
    ["a", {"message": "b"}],
    "text",
    5,
    None,
    {},
    {"message": None},
    {"message": ["a"]},
    {"detail": {"error_codes": "UNKNOWN"}},
    {"detail": {"error_codes": [None, 1, {}]}},
    {"detail": {"error_codes": {"UNKNOWN": 1}}},
    {"detail": [1, 2], "title": {}},
    {"detail": {"detail": {"detail": {"message": "deep"}}}, "message": "m"},
    b"",
    b"\x00",
    b"\xff\xfe\xfd",
    b"[" * 200_000,
    b'{"detail":' * 50_000,
    b'{"message": "' + b"x" * MIB + b'"}',
    b'{"message": "\\ud800"}',
    b"<html>" + b"x" * MIB,
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, {NOT_UNDERSTOOD, "ScanFailed unsupported"}),
        (404, {NOT_UNDERSTOOD}),
        (500, {TRY_AGAIN}),
        (503, {"Unavailable"}),
    ],
)
async def test_any_body_of_an_error_comes_to_what_its_status_says(
    status: int, expected: set[str], body: Any
) -> None:
    async with calls_of(always(status, body)) as (calls, _):
        assert await outcome(AnchoreV1(calls).add_image(TAGGED)) in expected


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_have_a_text_and_codes(body: bytes) -> None:
    error = Reply(status=500, body=body).error
    assert isinstance(error.text, str)
    assert error.codes == []


def test_the_sentence_of_an_error() -> None:
    assert ErrorBody(message="m", detail="d", title="t").text == "m"
    assert ErrorBody(detail="d", title="t").text == "d"
    assert ErrorBody(detail={"x": 1}, title="t").text == "t"
    assert len(ErrorBody(message="x" * MIB).text) == transport.MAX_TEXT
    assert ErrorBody(detail={"error_codes": ["A", 1, "B"]}).codes == ["A", "B"]


async def test_every_call_is_counted_once_by_its_status() -> None:
    for status, expected in ((200, "200"), (500, "500"), (503, "503")):
        async with calls_of(always(status, [])) as (calls, _):
            await outcome(AnchoreV1(calls).bundles())
            assert counted(calls, "policies_list", expected) == 1
    async with calls_of(always(200, b" " * (transport.MAX_ANSWER + 1))) as (calls, _):
        await outcome(AnchoreV1(calls).bundles())
        assert counted(calls, "policies_list", "200") == 1


def counted(calls: Calls, operation: str, code: str) -> float:
    value: float = calls._metrics.anchore_requests.labels(operation, code)._value.get()
    return value


TOKEN = "YWRhOnBhc3M6d8O2cmQ="
"""Basic authentication of the client that `calls_of` makes; its password is `pass:wörd`."""


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 500, 502, 503])
async def test_what_a_proxy_sends_back_of_our_credentials_goes_no_further(status: int) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        """As a proxy that is being debugged."""
        sent = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        return web.Response(status=status, text=f"{sent}\nthe password is pass:wörd")

    async with calls_of(echo) as (calls, journal):
        for call in (AnchoreV1(calls).bundles(), AnchoreV1(calls).add_image(TAGGED), calls.detect()):
            with pytest.raises(MoorgateError) as caught:
                await call
            said = "".join(traceback.format_exception(caught.value))
            assert TOKEN not in said
            assert "wörd" not in said
    assert journal[0].headers["Authorization"] == f"Basic {TOKEN}", "it was sent, so it could come back"


async def test_what_comes_back_where_a_status_line_should_be_goes_no_further() -> None:
    """aiohttp quotes the bytes that it cannot read."""

    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.readuntil(b"\r\n\r\n")
        writer.write(sent[sent.index(b"Authorization") :])
        writer.close()

    server = await asyncio.start_server(garble, "127.0.0.1", 0)
    settings = AnchoreSettings(
        url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        username="ada",
        password=Secret("pass:wörd"),
    )
    async with server, open_session(settings) as session:
        with pytest.raises(Unavailable) as caught:
            await AnchoreHttp(session, settings).request("GET", "/v1/version")
    said = "".join(traceback.format_exception(caught.value))
    assert "Expected HTTP/" in said, "what came is quoted"
    assert TOKEN not in said


async def test_what_stands_in_the_body_is_hidden_too_and_before_anything_is_cut() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, text="x" * 190 + await request.text())

    async with calls_of(answer) as (calls, _):
        with pytest.raises(Unavailable) as caught:
            await calls.http.request(
                "POST", "/v1/registries", body={"p": "s3cr3t-pass"}, hide=Secret("s3cr3t-pass")
            )
    assert "s3c" not in str(caught.value)
