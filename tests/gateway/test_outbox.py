"""Decisions on their way: each is stored once, whatever becomes of NATS, or it is told on stdout."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from services.gateway import outbox as outbox_module
from services.gateway.metrics import GatewayMetrics
from services.gateway.outbox import Outbox
from shared import contracts, subjects
from shared.broker import Broker, BrokerSettings, open_broker
from shared.contracts import Action, AdmissionDecided
from shared.errors import Unavailable
from shared.metrics import CommonMetrics
from tests.support.builders import START


def decided(number: int, namespace: str, **changes: Any) -> AdmissionDecided:
    plain = AdmissionDecided(
        id=f"{namespace}-{number}",
        decided_at=START,
        namespace=namespace,
        pod_name="web-0",
        pod_uid="u",
        operation="CREATE",
        action=Action.ALLOWED,
        code=200,
        release="web",
        fake_release=False,
        user="alice",
        images=(),
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture
def namespace() -> str:
    return f"n-{secrets.token_hex(4)}"


@pytest.fixture
def metrics() -> GatewayMetrics:
    return GatewayMetrics(CollectorRegistry())


@asynccontextmanager
async def running(broker: Broker, metrics: GatewayMetrics) -> AsyncIterator[Outbox]:
    outbox = Outbox(broker, metrics)
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
        assert not task.done(), "the outbox must never end by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def stored(broker: Broker, namespace: str) -> list[AdmissionDecided]:
    """What the stream holds of this namespace, in order."""
    subject = subjects.decision_subject(namespace)
    info = await broker.jetstream.stream_info(subjects.EVENTS, subjects_filter=subject)
    count = (info.state.subjects or {}).get(subject, 0)
    found = []
    if count:
        subscription = await broker.jetstream.subscribe(subject, ordered_consumer=True)
        for _ in range(count):
            message = await subscription.next_msg(5)
            assert message.headers is not None
            found.append(contracts.decode(message.data, contracts.ADMISSION_DECIDED))
            assert message.headers["Nats-Msg-Id"] == found[-1].id
        await subscription.unsubscribe()
    return found


async def test_every_decision_is_stored_once_in_order(
    broker: Broker, namespace: str, metrics: GatewayMetrics
) -> None:
    async with running(broker, metrics) as outbox:
        for number in range(200):
            outbox.record(decided(number, namespace), "")
        outbox.record(decided(0, namespace), "")
        await outbox.drain(5)
    found = await stored(broker, namespace)
    assert sorted(found, key=lambda each: int(each.id.rpartition("-")[2])) == [
        decided(number, namespace) for number in range(200)
    ]
    assert metrics.outbox_entries._value.get() == 0


async def test_what_nats_did_not_acknowledge_is_published_again_and_stored_once(
    broker: Broker, namespace: str, metrics: GatewayMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "RETRY", 0.01)
    publish, tries = broker.publish, 0

    async def losing(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        await publish(*arguments)
        if tries <= 20:
            raise Unavailable("nats", "stored, but the acknowledgement is lost")

    monkeypatch.setattr(broker, "publish", losing)
    async with running(broker, metrics) as outbox:
        for number in range(5):
            outbox.record(decided(number, namespace), "")
        await outbox.drain(5)
    assert tries > 20
    assert len(await stored(broker, namespace)) == 5


async def test_with_nats_away_decisions_wait_and_are_stored_when_it_is_back(
    nats_server: NatsServer,
    broker: Broker,
    namespace: str,
    metrics: GatewayMetrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker.jetstream, "_timeout", 1.0)  # of what was on its way into the dead socket
    async with running(broker, metrics) as outbox:
        outbox.record(decided(0, namespace), "")
        nats_server.process.kill()
        for number in range(1, 100):
            outbox.record(decided(number, namespace), "")
        await asyncio.sleep(0)
        assert metrics.outbox_entries._value.get() >= 99
        await nats_server.process.start()
        await outbox.drain(20)
        assert metrics.outbox_entries._value.get() == 0
    assert {each.id for each in await stored(broker, namespace)} == {f"{namespace}-{n}" for n in range(100)}
    assert len(await stored(broker, namespace)) == 100


@asynccontextmanager
async def nowhere() -> AsyncIterator[Broker]:
    settings = BrokerSettings(url=f"nats://127.0.0.1:{free_port()}")
    async with open_broker(settings, "tests", CommonMetrics(CollectorRegistry())) as broker:
        yield broker


async def test_what_is_left_at_the_stop_goes_to_stdout(
    namespace: str, metrics: GatewayMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    async with nowhere() as broker, running(broker, metrics) as outbox:
        huge = decided(1, namespace, message="x" * 300_000)
        for each in (decided(0, namespace), huge, decided(2, namespace)):
            outbox.record(each, "")
        await outbox.drain(0.05)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('{"type"')]
    assert [json.loads(line)["id"] for line in lines] == [f"{namespace}-{n}" for n in range(3)]
    assert msgspec.json.decode(lines[0], type=AdmissionDecided) == decided(0, namespace)


async def test_an_empty_outbox_drains_at_once_and_says_nothing(
    metrics: GatewayMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    async with nowhere() as broker, running(broker, metrics) as outbox:
        await asyncio.wait_for(outbox.drain(30), 1)
    assert '"type"' not in capsys.readouterr().out


async def test_a_full_outbox_counts_what_it_drops_and_never_fails_an_admission(
    namespace: str, metrics: GatewayMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "MAX_ENTRIES", 2)
    async with nowhere() as broker:
        outbox = Outbox(broker, metrics)
        for number in range(4):
            outbox.record(decided(number, namespace, message="x" * 300_000), "")
        assert metrics.unrecorded._value.get() == 2
        assert metrics.outbox_entries._value.get() == 2


async def test_a_decision_that_cannot_be_published_at_all_does_not_stop_the_others(
    broker: Broker, namespace: str, metrics: GatewayMetrics
) -> None:
    async with running(broker, metrics) as outbox:
        outbox.record(decided(0, namespace, message="x" * 300_000), "")
        outbox.record(decided(1, namespace), "")
        await outbox.drain(5)
    assert [each.id for each in await stored(broker, namespace)] == [f"{namespace}-1"]
    assert metrics.unrecorded._value.get() == 1
