"""Whatever is sent to a port of ours: a documented status with one line, and the next caller is answered as before.

Real ports with real TLS, raw bytes where a client library would not send them. The documented statuses stand in
SECURITY.md.
"""

import asyncio
import io
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from services.gateway import tls as tls_module
from services.gateway.webhook import MAX_BODY
from tests.gateway.test_webhook import Gateway
from tests.security.doors import SECRET, Port, gateway_port, notifications_port, page_port, plain_port
from tests.support.builders import pod, review

PATH = f"/imagecheck/{SECRET}"
JSON = {"Content-Type": "application/json"}
GOOD = json.dumps(review(pod("nginx:1"))).encode()
DEEP = 100_000

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PATHS = (
    "/", "/imagecheck", PATH, f"{PATH}/", f"{PATH}/x", "/imagecheck/wrong", "/metrics", "/healthz", "/readyz",
    "/notifications", f"/notifications/{SECRET}", "/notifications/wrong/x", "/..%2f..%2fetc/passwd", "/%00",
    "//imagecheck", "/favicon.ico", "/debug/pprof", "/imagecheck/%C3%A9", "/imagecheck/" + "a" * 5000,
)  # fmt: skip
TYPES = ("application/json", "text/plain", "application/json; charset=utf-16", "")
BODIES = (b"", b"{}", GOOD, b"[" * 1000, b"\xff\x00")

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD)
SECOND = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

AMBIGUOUS = {
    "both lengths": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK,
    "both lengths, the other way": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNK,
    "two lengths": HEAD + b"Content-Length: 4\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    "a list of lengths": HEAD + b"Content-Length: 4, 4\r\n\r\nabcd",
    "a signed length": HEAD + b"Content-Length: +4\r\n\r\nabcd",
    "a length with a blank": HEAD + b"Content-Length : 4\r\n\r\nabcd",
    "a length below nothing": HEAD + b"Content-Length: -1\r\n\r\n",
    "a huge length": HEAD + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
    "chunked in disguise": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNK,
    "chunked and more": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNK,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK,
    "a folded header": HEAD + b"Content-Length: 4\r\nX: a\r\n b\r\n\r\nabcd",
    "a bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcd\r\n0\r\n\r\n",
    "a chunk size with more": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
    "a bare return in a header": HEAD + b"X: a\rContent-Length: 4\r\n\r\nabcd",
    "NUL in a header": HEAD + b"X: a\x00b\r\nContent-Length: 4\r\n\r\nabcd",
    "two hosts": b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
    "no method": b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no HTTP": b"\x16\x03\x01hello\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "a line of 100 kB": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header of 100 kB": HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "5000 headers": HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(5000)) + b"\r\n",
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def gateway(tmp_path: Path, authority: trustme.CA) -> AsyncIterator[tuple[Port, Gateway]]:
    async with gateway_port(tmp_path, authority) as found:
        yield found


async def admit(port: Port, session: aiohttp.ClientSession) -> float:
    """One good admission, which must be allowed; gives its seconds."""
    started = time.perf_counter()
    url = f"{port.url}{PATH}?timeout=10s"
    async with session.post(url, data=GOOD, headers=JSON, ssl=port.tls or False) as response:
        assert response.status == 200
        assert (await response.json())["response"]["allowed"] is True
    return time.perf_counter() - started


def check_answer(status: int, known: set[int], text: str, what: object) -> None:
    """A refusal is one line; where the request itself cannot be read, aiohttp draws the place below the line."""
    assert status in known, (status, what)
    if status >= 400:
        assert len(text.splitlines()) <= (5 if "encountered" in text or "^" in text else 1), (what, text)
        assert len(text) < 700, (what, text)


async def sweep(port: Port, known: Callable[[str, str], set[int]]) -> int:
    """Every method with every path, type and body; gives how many requests were answered."""
    count = 0
    async with aiohttp.ClientSession() as session:
        for method, path in itertools.product(METHODS, PATHS):
            bodies = itertools.product(TYPES, BODIES) if method == "POST" else [(TYPES[0], b"{}")]
            for content_type, body in bodies:
                headers = {"Content-Type": content_type} if content_type else {}
                url = f"{port.url}{path}"
                async with session.request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    ssl=port.tls or False,
                    skip_auto_headers=["Content-Type"],
                ) as response:
                    text = await response.text(errors="replace")
                    check_answer(
                        response.status, known(method, path), text, (method, path, content_type, body)
                    )
                    count += 1
    return count


async def test_the_gateways_port_has_one_path(gateway: tuple[Port, Gateway]) -> None:
    port, made = gateway

    def known(method: str, path: str) -> set[int]:
        if path == PATH:
            return {200, 400, 415} if method == "POST" else {405}
        return {400, 404} if method in {"CONNECT", "POST"} else {400, 404, 405}

    assert await sweep(port, known) > 400
    assert made.metrics.bad_requests.labels("500")._value.get() == 0


async def test_the_plain_port_has_three_paths() -> None:
    async with plain_port() as port:

        def known(method: str, path: str) -> set[int]:
            if path in {"/metrics", "/healthz", "/readyz"}:
                return {200} if method in {"GET", "HEAD"} else {405, 400}
            return {404, 400}

        await sweep(port, known)


async def test_the_notifications_port_wants_its_secret(tmp_path: Path, authority: trustme.CA) -> None:
    async with notifications_port(tmp_path, authority) as port:

        def known(method: str, path: str) -> set[int]:
            if not path.startswith("/notifications"):
                return {404, 400}
            if method != "POST":
                return {405, 400}
            return {400, 503} if path == f"/notifications/{SECRET}" else {401}

        await sweep(port, known)


async def test_the_page_shows_nothing_to_strangers(tmp_path: Path, authority: trustme.CA) -> None:
    async with page_port(tmp_path, authority) as port:

        def known(method: str, path: str) -> set[int]:
            if path == "/":
                return {401} if method in {"GET", "HEAD"} else {405, 400}
            return {404, 400}

        await sweep(port, known)


@pytest.mark.parametrize("request_bytes", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_the_page_bears_what_can_be_read_in_two_ways(
    tmp_path: Path, authority: trustme.CA, request_bytes: bytes
) -> None:
    async with page_port(tmp_path, authority) as port:
        answer = await port.answer(request_bytes.replace(PATH.encode(), b"/sign-in") + SECOND)
        assert len(re.findall(rb"(?m)^HTTP/1\.", answer)) <= 1, answer
        assert b" 500 " not in answer.splitlines()[0] if answer else True
        assert b" 200 " in await port.answer(b"GET /sign-in HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("request_bytes", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_what_two_parsers_could_read_in_two_ways_is_refused(
    gateway: tuple[Port, Gateway], request_bytes: bytes
) -> None:
    """One refusal, then the end: what follows on the connection is never taken for a request of its own."""
    port, made = gateway
    answer = await port.answer(request_bytes + SECOND)
    assert len(re.findall(rb"(?m)^HTTP/1\.", answer)) <= 1, answer
    if answer:
        head, _, body = answer.partition(b"\r\n\r\n")
        check_answer(int(head.split()[1]), {400, 404, 405, 413, 415}, body.decode(), request_bytes[:80])
    assert made.recorded == []
    async with aiohttp.ClientSession() as session:
        await admit(port, session)


@pytest.mark.parametrize("request_bytes", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_the_plain_port_bears_the_same(request_bytes: bytes) -> None:
    async with plain_port() as port:
        answer = await port.answer(request_bytes.replace(PATH.encode(), b"/healthz") + SECOND)
        assert len(re.findall(rb"(?m)^HTTP/1\.", answer)) <= 1, answer
        assert b" 500 " not in answer.splitlines()[0] if answer else True
        assert (await port.answer(b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200")


HUGE: dict[str, tuple[int, Callable[[], bytes]]] = {
    "10 MB of blanks": (413, lambda: b" " * 10 * 1024 * 1024),
    "10 MB in one image": (413, lambda: json.dumps(review(pod("a" * 10 * 1024 * 1024))).encode()),
    "as much as is taken, in one image": (
        200,
        lambda: json.dumps(review(pod("a" * (MAX_BODY - 5000)))).encode(),
    ),
    "many containers": (200, lambda: json.dumps(review(pod(*[f"a:{n}" for n in range(20_000)]))).encode()),
    "deep": (400, lambda: b"[" * DEEP),
    "deep where nobody looks": (
        400,
        lambda: GOOD.replace(b'"oldObject": null', b'"x": ' + b"[" * DEEP + b"]" * DEEP),
    ),
    "wrong UTF-8": (400, lambda: GOOD.replace(b"nginx", b"\xff\xfe")),
    "duplicate keys": (200, lambda: GOOD.replace(b'"uid": ', b'"uid": "another", "uid": ', 1)),
    "a huge number": (400, lambda: GOOD.replace(b'"dryRun": false', b'"dryRun": ' + b"9" * 100_000)),
    "NaN": (400, lambda: GOOD.replace(b'"dryRun": false', b'"dryRun": NaN')),
    "Infinity": (400, lambda: GOOD.replace(b'"dryRun": false', b'"dryRun": -Infinity')),
}


@pytest.mark.parametrize(("status", "make"), HUGE.values(), ids=HUGE)
async def test_bodies_that_are_too_much(
    gateway: tuple[Port, Gateway], status: int, make: Callable[[], bytes]
) -> None:
    port, _ = gateway
    async with aiohttp.ClientSession() as session:
        body = make()
        try:
            async with session.post(
                f"{port.url}{PATH}", data=io.BytesIO(body), headers=JSON, ssl=port.tls or False
            ) as response:
                text = await response.text()
                assert response.status == status, text
                check_answer(response.status, {200, 400, 413}, text if status != 200 else "", len(body))
        except aiohttp.ClientError:
            assert status == 413, "the connection may end before all of it was sent"
        await admit(port, session)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 1000,
        b"\xff" * 1000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x40\x00\x01",
        b"\x80\x2e\x01\x00\x02",
    ],
    ids=["zeros", "ones", "plain HTTP", "half a hello", "SSL 2"],
)
async def test_what_is_no_tls_ends_there(gateway: tuple[Port, Gateway], garbage: bytes) -> None:
    port, _ = gateway
    _, writer = await asyncio.open_connection("127.0.0.1", port.number)
    writer.write(garbage)
    await writer.drain()
    async with aiohttp.ClientSession() as session:
        await admit(port, session)
    writer.transport.abort()


@asynccontextmanager
async def held(port: Port, count: int, begun: bytes) -> AsyncIterator[list[Any]]:
    """So many connections on which this much of a request was sent, and no more comes."""
    limit = asyncio.Semaphore(50)

    async def begin() -> Any:
        async with limit:
            reader, writer = await port.connect()
            writer.write(begun)
            await writer.drain()
            return reader, writer

    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(*(begin() for _ in range(count)))
        for _, writer in opened:
            stack.callback(writer.transport.abort)
        yield opened


@pytest.mark.parametrize(
    "begun",
    [HEAD, HEAD + b"Content-Length: 99\r\n\r\n{"],
    ids=["in the middle of the headers", "of the body"],
)
async def test_slow_callers_hold_up_nobody_and_are_sent_away(
    tmp_path: Path, authority: trustme.CA, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "IDLE_TIMEOUT", 3.0)
    monkeypatch.setattr("services.gateway.webhook.BODY_TIMEOUT", 3.0)
    async with gateway_port(tmp_path, authority) as (port, _), held(port, 100, begun) as opened:
        async with aiohttp.ClientSession() as session:
            for _ in range(10):
                await admit(port, session)
        async with asyncio.timeout(30):
            ends = await asyncio.gather(*(reader.read() for reader, _ in opened), return_exceptions=True)
    assert all(not end or b" 408 " in end for end in ends if not isinstance(end, BaseException))
    assert not [
        end for end in ends if isinstance(end, BaseException) and not isinstance(end, ConnectionError)
    ]


async def test_who_has_no_secret_keeps_no_connection(gateway: tuple[Port, Gateway]) -> None:
    port, _ = gateway
    for path in ("/", "/imagecheck/wrong", "/metrics"):
        for method in ("GET", "POST"):
            answer = await port.answer(
                f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
            )
            assert b"\r\nConnection: close\r\n" in answer, (method, path, answer)


@pytest.mark.timeout(300)
async def test_a_thousand_idle_connections_delay_no_admission(
    gateway: tuple[Port, Gateway], record_property: Callable[[str, object], None]
) -> None:
    port, _ = gateway
    async with held(port, 1000, b""), aiohttp.ClientSession() as session:
        took = sorted([await admit(port, session) for _ in range(300)])
    p99 = took[int(len(took) * 0.99)]
    record_property("p99_ms", round(p99 * 1000, 1))
    figures = f"p50 {took[150] * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
    print(f"1,000 idle connections: 300 admissions, none refused, {figures}")  # noqa: T201  read by `pytest -rP`
    assert p99 < 3, "seconds: what an admission may wait for a verdict"
