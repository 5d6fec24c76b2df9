"""A TLS port beside the main work: a certificate that changes under it, callers that say nothing, and the stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.gateway.metrics import GatewayMetrics
from shared.certificates import KeyPair
from shared.errors import BadSetting
from shared.settings import Listen
from shared.tls_port import TlsPort, serve_tls
from tests.shared.test_certificates import Caller, Mount, issue, serial
from tests.support.road import until

IDLE = 0.5
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Door:
    """An application whose answer waits until it may be given."""

    def __init__(self, folder: Path) -> None:
        self.pair = issue()
        self.mount = Mount(folder, self.pair)
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.metrics = GatewayMetrics(CollectorRegistry())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        application = web.Application()
        application.router.add_get("/", self._answer)
        port = TlsPort(
            settings="MOORGATE_TEST",
            listen=Listen("127.0.0.1", 0),
            files=self.mount.files,
            idle_timeout=IDLE,
            leave_timeout=5.0,
        )
        async with serve_tls(port, application, self.metrics) as address:
            yield address.port

    async def is_degraded(self) -> bool:
        return bool(self.metrics.degraded.labels("certificate")._value.get())

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked.set()
        await self.may_answer.wait()
        return web.Response(text="here")


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


async def status_line(caller: Caller) -> bytes:
    return await asyncio.wait_for(caller.reader.readline(), 5)


async def test_a_new_certificate_is_shown_to_the_next_caller_and_the_old_ones_stay(door: Door) -> None:
    door.may_answer.set()
    second = issue()
    async with door.open() as port, Caller(port) as early:
        assert early.serial == serial(door.pair)
        door.mount.swap(second)

        async def is_shown() -> bool:
            async with Caller(port) as late:
                return late.serial == serial(second)

        early.writer.write(GET)
        assert b"200" in await status_line(early)
        await until(is_shown, "the new certificate is shown")


async def test_what_is_no_pair_is_refused_at_the_start_and_changes_nothing_later(door: Door) -> None:
    torn = KeyPair(issue().certificate, issue().key)
    door.may_answer.set()
    async with door.open() as port:
        door.mount.swap(torn)
        await until(door.is_degraded, "the torn pair was seen")
        async with Caller(port) as caller:
            assert caller.serial == serial(door.pair)
    with pytest.raises(BadSetting, match="MOORGATE_TEST"):
        async with door.open():
            pass


async def test_whoever_says_nothing_is_sent_away(door: Door) -> None:
    async with door.open() as port, Caller(port) as silent, Caller(port) as slow:
        slow.writer.write(GET[:7])
        for caller in (silent, slow):
            await asyncio.wait_for(caller.reader.read(), 20 * IDLE)  # to the end of the connection


async def test_what_is_under_way_at_the_stop_is_answered(door: Door) -> None:
    async with AsyncExitStack() as stack:
        closing = await stack.enter_async_context(AsyncExitStack())
        port = await closing.enter_async_context(door.open())
        caller = await stack.enter_async_context(Caller(port))
        caller.writer.write(GET)
        await door.asked.wait()
        stop = asyncio.create_task(closing.aclose())

        async def is_closed() -> bool:
            try:
                async with Caller(port):
                    return False
            except ConnectionRefusedError:
                return True

        await until(is_closed, "the stop has begun")
        door.may_answer.set()
        assert b"200" in await status_line(caller)
        await stop
