"""A connection to NATS over which nothing comes any more, though nobody has closed it."""

import asyncio
from collections.abc import Callable

import nats
import pytest
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from shared import silence
from shared.broker import BrokerSettings, open_broker
from shared.contracts import DeadLetter
from shared.errors import Unavailable
from shared.metrics import CommonMetrics
from shared.settings import Environment
from shared.subjects import dead_subject
from tests.support.builders import START
from tests.support.nats import broker_on
from tests.support.nats_users import SCANNER
from tests.support.proxies import Throttle
from tests.support.road import until

FOR_EVER = 3600.0
SOON = 20.0
"""Seconds: nats-py alone takes 60, half of them to say goodbye over TLS to nobody."""

LETTER = DeadLetter(
    what="scan", reason="r", subject="s", stream="S", sequence=1, deliveries=1, died_at=START, payload=b"x"
)


async def test_a_silent_connection_is_cut_and_made_anew(locked: NatsServer) -> None:
    throttle = Throttle(locked.port)
    metrics = CommonMetrics(CollectorRegistry())
    async with throttle.running() as port:
        url = {"MOORGATE_NATS_URL": f"nats://127.0.0.1:{port}"}
        settings = BrokerSettings.load(Environment({**locked.settings(SCANNER), **url}))
        async with open_broker(settings, "tests", metrics) as broker:
            await asyncio.wait_for(broker.connected(), 20)

            async def is_published() -> bool:
                try:
                    await broker.publish(dead_subject("scan"), LETTER, "silence-1")
                except Unavailable:
                    return False
                return True

            assert await is_published()
            throttle.delay = FOR_EVER
            assert not await is_published(), "the answer was swallowed"
            throttle.delay = 0.0  # for new connections; what was swallowed stays so
            await until(is_published, "the connection was made anew", SOON)


async def test_a_connection_over_which_a_lot_comes_is_not_silent_however_long_the_answer_takes(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("EVERY", 0.1), ("PATIENCE", 1.0), ("LOOK", 0.1)):
        monkeypatch.setattr(silence, name, seconds)
    throttle = Throttle(nats_server.port)
    metrics = CommonMetrics(CollectorRegistry())
    async with (
        throttle.running() as port,
        broker_on(nats_server) as sender,
        open_broker(BrokerSettings(url=f"nats://127.0.0.1:{port}"), "tests", metrics) as broker,
    ):
        await asyncio.wait_for(broker.connected(), 20)
        disconnections: list[None] = []
        broker.on_reconnect(lambda: disconnections.append(None))
        came = asyncio.Queue[bytes]()

        async def take(message: Msg) -> None:
            came.put_nowait(message.data)

        await broker.client.subscribe("a.lot", cb=take)
        await broker.client.flush()
        throttle.delay, throttle.piece = 0.05, 1500
        for _ in range(100):  # five seconds, with the answers to all pings behind them
            await sender.client.publish("a.lot", b"x" * 1400)
        await sender.client.flush()
        for _ in range(100):
            await asyncio.wait_for(came.get(), 20)
        assert not disconnections


async def test_whoever_stops_asking_leaves_the_connection_as_it_was(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "EVERY", 0.0)
    throttle = Throttle(nats_server.port)
    async with throttle.running() as port:
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        async with asyncio.timeout(20), client:
            await client.flush()
            throttle.delay = 0.3
            asking = asyncio.create_task(silence.cut_when_silent(client))
            await until(lambda: _is_sent(client), "a ping is under way")
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await client.flush()  # its answer comes behind the one that nobody waits for
            assert client.is_connected
            await client.flush()


async def _is_sent(client: Client) -> bool:
    return bool(client._pongs)


@pytest.mark.parametrize(
    "loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_connection_that_has_just_gone_is_not_asked(
    nats_server: NatsServer, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def ask() -> None:
        async with asyncio.timeout(20), await nats.connect(nats_server.url) as client:
            silence.cut(client)
            await asyncio.sleep(0)  # the transport knows it, and nats-py does not yet
            assert client.is_connected
            assert not await silence._is_silent(client)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(ask())
