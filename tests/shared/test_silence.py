"""A connection to NATS over which nothing comes any more, though nobody has closed it."""

import asyncio

from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from shared.broker import BrokerSettings, open_broker
from shared.contracts import DeadLetter
from shared.errors import Unavailable
from shared.metrics import CommonMetrics
from shared.settings import Environment
from shared.subjects import dead_subject
from tests.support.builders import START
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
