"""How the tests reach NATS by the chart's own configuration: a server with its locks on, and a connection for each user."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from deploy.dev.nats_access import NatsAccess
from shared import streams
from shared.broker import Broker, BrokerSettings, open_broker
from shared.metrics import CommonMetrics
from shared.settings import Environment

GATEWAY, SCANNER, AUDIT_WRITER, INTEGRATOR, OPERATOR = (
    "gateway",
    "scanner",
    "audit-writer",
    "integrator",
    "operator",
)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server by the chart's configuration, with the streams that the operator made."""
    folder = tmp_path_factory.mktemp("nats")

    async def start(server: NatsServer) -> None:
        await server.start()
        async with broker_as(server, OPERATOR) as broker:
            await streams.apply(broker, 1)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        server = NatsServer(folder=folder, access=NatsAccess(folder=folder / "etc"))
        runner.run(start(server))
        try:
            yield server
        finally:
            runner.run(server.stop())


@asynccontextmanager
async def broker_as(
    server: NatsServer, user: str, metrics: CommonMetrics | None = None
) -> AsyncIterator[Broker]:
    """A connection by the settings of a service."""
    settings = BrokerSettings.load(Environment(server.settings(user)))
    metrics = metrics or CommonMetrics(CollectorRegistry())
    async with open_broker(settings, f"tests/{user}", metrics) as broker:
        await asyncio.wait_for(broker.connected(), 20)
        yield broker


@asynccontextmanager
async def client_as(server: NatsServer, user: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """A bare connection, and what the server complains of."""
    complaints: list[str] = []

    async def note(error: Exception) -> None:
        complaints.append(str(error))

    client = await nats.connect(**server.options(user), error_cb=note)
    try:
        yield client, complaints
    finally:
        await client.close()
