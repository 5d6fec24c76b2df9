"""How the tests reach NATS: a real nats-server with JetStream per test module.

It has free ports and a store folder of its own. Streams outlive a test, not its module: tests of one
module choose unique names. A test may kill, pause or restart the server through `nats_server.process`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from shared import streams
from shared.broker import Broker, BrokerSettings, open_broker
from shared.metrics import CommonMetrics


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The module's server, ready."""
    # A loop of its own: fixtures of a module outlive the loops of the tests.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        server = NatsServer(folder=tmp_path_factory.mktemp("nats"))
        runner.run(server.start())
        try:
            yield server
        finally:
            runner.run(server.stop())


@asynccontextmanager
async def broker_on(server: NatsServer, source: str = "tests") -> AsyncIterator[Broker]:
    """A connected broker, as one process of its own has it."""
    metrics = CommonMetrics(CollectorRegistry())
    async with open_broker(BrokerSettings(url=server.url), source, metrics) as broker:
        await asyncio.wait_for(broker.connected(), 5)
        yield broker


@pytest.fixture
async def broker(nats_server: NatsServer) -> AsyncIterator[Broker]:
    """A connected broker; streams and buckets are there."""
    async with broker_on(nats_server) as broker:
        await streams.apply(broker, 1)
        yield broker


class Bell:
    """Rings whenever something may have changed; tests wait on it instead of sleeping."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self, *_: object) -> None:
        """Something may have changed."""
        self._rung.set()

    async def until(self, condition: Callable[[], object], within: float = 5.0) -> None:
        """Wait until the condition holds, looking after each ring; raises `TimeoutError`."""
        async with asyncio.timeout(within):
            while not condition():
                await self._rung.wait()
                self._rung.clear()
