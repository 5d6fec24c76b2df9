"""A gateway that leaves while its callers go on posting on connections that they keep open, as Go keeps them."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import trustme
import uvloop
from aiohttp import web

from services.gateway import farewell
from services.gateway.webhook import Webhook
from tests.gateway.test_webhook import Gateway, server_tls
from tests.support.builders import pod, review

OPENED = 60
PACE = 0.025
"""Seconds from one request to the next."""

LATE = 0.05
"""Seconds until a caller sees that a connection was closed: what it posts meanwhile is lost."""

LAME_DUCK = 3.0
BODY = json.dumps(review(pod("nginx:1"))).encode()
POST = (
    b"POST /imagecheck HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % len(BODY)
) + BODY


class Kept(asyncio.Protocol):
    """A connection: when it was closed, and the answer that came last."""

    closed_at: float | None = None
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._answered = asyncio.Event()
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if b'"uid"' in self._answer:
            self._answered.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.closed_at = asyncio.get_running_loop().time()
        self._answered.set()

    async def post(self) -> bytes:
        """Nothing: the connection was closed under the request."""
        self._answer = b""
        self._answered.clear()
        if self.closed_at is None:
            self.transport.write(POST)
            await self._answered.wait()
        return self._answer


@dataclass
class Caller:
    """Takes the connection it used last, and opens others elsewhere when it has none left."""

    port: int
    trusting: ssl.SSLContext
    pool: list[Kept] = field(default_factory=list)
    answered: int = 0
    elsewhere: int = 0
    lost: int = 0

    async def opens(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(Kept, "127.0.0.1", self.port, ssl=self.trusting)
            for _ in range(count)
        ]
        for _, connection in made:
            assert b"200 OK" in await connection.post()
            self.pool.append(connection)

    async def post(self) -> None:
        now = asyncio.get_running_loop().time()
        self.pool = [each for each in self.pool if each.closed_at is None or now - each.closed_at < LATE]
        if not self.pool:
            self.elsewhere += 1
            return
        connection = self.pool.pop()
        answer = await connection.post()
        if b"200 OK" not in answer:
            self.lost += 1
            return
        self.answered += 1
        if b"Connection: close" not in answer:
            self.pool.append(connection)


async def post_on(caller: Caller, gone: asyncio.Event) -> None:
    """Until the gateway has gone and every caller has seen it."""
    until = float("inf")
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as posts:
        while loop.time() < until:
            posts.create_task(caller.post())
            await asyncio.sleep(PACE)  # the pace of the load
            if gone.is_set():
                until = min(until, loop.time() + 2 * LATE)


@asynccontextmanager
async def leaving() -> AsyncIterator[tuple[Webhook, web.Server, int, ssl.SSLContext]]:
    """A webhook on a TLS port, and whom its callers trust."""
    gateway, authority = Gateway(), trustme.CA()
    gateway.know("nginx:1")
    door = Webhook(gateway.gate, gateway.metrics, max_wait=3.0, margin=0.5, secret=None)
    server = door.server()
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(authority)).start()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    authority.issue_cert("apiserver").configure_cert(trusting)
    try:
        yield door, server, runner.addresses[0][1], trusting
    finally:
        await runner.cleanup()


async def _closes_no_connection_under_a_request() -> None:
    gone = asyncio.Event()
    async with leaving() as (door, server, port, trusting):
        caller = Caller(port, trusting)
        await caller.opens(OPENED)
        posting = asyncio.create_task(post_on(caller, gone))
        await door.leave(LAME_DUCK)
        left = len(server.connections)
    gone.set()
    await posting
    assert caller.lost == 0
    assert farewell.KEPT <= caller.answered < OPENED - farewell.KEPT, "some are answered on, most are closed"
    assert caller.elsewhere > 0, "what follows goes elsewhere"
    assert left == 0, "nobody is hung up on at the end"


async def _closes_what_nobody_uses() -> None:
    async with leaving() as (door, server, port, trusting):
        caller = Caller(port, trusting)
        await caller.opens(OPENED)
        await door.leave(LAME_DUCK)
        assert len(server.connections) == farewell.KEPT


async def _answers_a_request_under_way_however_quiet_its_connection_is() -> None:
    async with leaving() as (door, _, port, trusting):
        opened = [
            await asyncio.open_connection("127.0.0.1", port, ssl=trusting) for _ in range(3 * farewell.KEPT)
        ]
        for _, writer in opened:
            writer.write(POST[:-1])
        leave = asyncio.create_task(door.leave(LAME_DUCK))
        await asyncio.sleep(0.8 * LAME_DUCK)  # all but a few of those that are quiet have been closed by now
        for reader, writer in opened:
            writer.write(POST[-1:])
            assert b"200 OK" in await reader.readline()
            writer.transport.abort()
        await leave


@pytest.mark.parametrize(
    "loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize(
    "story",
    [
        _closes_no_connection_under_a_request,
        _closes_what_nobody_uses,
        _answers_a_request_under_way_however_quiet_its_connection_is,
    ],
)
def test_a_gateway_that_leaves(
    story: Callable[[], Coroutine[Any, Any, None]], loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """On the loop of services too, whose transports are others than asyncio's."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(story())
