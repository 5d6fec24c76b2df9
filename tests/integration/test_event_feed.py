"""The event stream, read from its beginning by somebody who has no part in it: through restarts, and when it is another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from shared import event_feed, ordered_consumer, streams, subjects
from shared.broker import Broker, BrokerSettings, open_broker
from shared.event_feed import EventFeed
from shared.lifecycle import background
from shared.metrics import CommonMetrics
from tests.audit_writer.decisions import decision
from tests.audit_writer.service import connected, eventually, publish


class Heard:
    """What came, and how often everything began anew."""

    def __init__(self, broker: Broker) -> None:
        self.ids: list[str] = []
        self.beginnings = 0
        self.feed = EventFeed(broker, self._take, self._begin)

    def _take(self, subject: str, payload: bytes) -> None:
        assert subject == subjects.decision_subject("shop")
        self.ids.append(msgspec.json.decode(payload)["id"])

    def _begin(self) -> None:
        self.beginnings += 1
        self.ids.clear()

    async def have(self, *ids: str) -> None:
        async def came() -> bool:
            return self.ids == list(ids)

        await eventually(f"{ids} were heard", came)


@asynccontextmanager
async def listening(server: NatsServer) -> AsyncIterator[Heard]:
    settings = BrokerSettings(url=server.url)
    async with open_broker(settings, "moorgate/reader", CommonMetrics(CollectorRegistry())) as broker:
        heard = Heard(broker)
        async with background(heard.feed.run()):
            yield heard


@pytest.fixture
async def broker(nats_server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(nats_server) as made:
        yield made


async def tell(broker: Broker, *ids: str) -> None:
    await publish(broker, *(decision(1, id=each) for each in ids))


async def test_what_was_there_comes_and_then_what_is_new(nats_server: NatsServer, broker: Broker) -> None:
    await tell(broker, "a", "b")
    async with listening(nats_server) as heard:
        await asyncio.wait_for(heard.feed.complete.wait(), 10)
        assert heard.ids == ["a", "b"]
        await tell(broker, "c")
        await heard.have("a", "b", "c")
        assert heard.beginnings == 1


async def test_an_empty_stream_is_complete_at_once(nats_server: NatsServer, broker: Broker) -> None:
    assert broker.is_connected
    async with listening(nats_server) as heard:
        await asyncio.wait_for(heard.feed.complete.wait(), 10)
        assert heard.ids == []


async def test_after_a_restart_it_goes_on_where_it_was(
    nats_server: NatsServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "AGAIN", 0.1)
    await tell(broker, "d", "e")
    async with listening(nats_server) as heard:
        await heard.have("d", "e")
        await nats_server.process.restart()
        await eventually("connected again", lambda: _is_so(broker))
        await tell(broker, "f")
        await heard.have("d", "e", "f")
        assert heard.beginnings == 1, "nothing was read twice"


async def test_another_stream_is_read_from_its_beginning(
    nats_server: NatsServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_feed, "AGAIN", 0.1)
    monkeypatch.setattr(ordered_consumer, "SILENCE", 1.0)
    await tell(broker, "g")
    async with listening(nats_server) as heard:
        await heard.have("g")
        await broker.jetstream.delete_stream(subjects.EVENTS)
        await streams.apply(broker, 1)
        await tell(broker, "h")
        await heard.have("h")
        assert heard.beginnings == 2


async def _is_so(broker: Broker) -> bool:
    return broker.is_connected
