"""Decisions on their way: each is stored once, whatever becomes of NATS, or it is told on stdout."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from services.gateway.metrics import GatewayMetrics
from services.gateway.outbox import Durability, OnUnrecorded, Outbox, OutboxSettings, Outgoing, open_outbox
from services.gateway.outbox import outbox as outbox_module
from services.gateway.outbox import publisher as publisher_module
from shared import contracts, subjects
from shared.broker import Broker, BrokerSettings, open_broker
from shared.contracts import Action, AdmissionDecided
from shared.metrics import CommonMetrics
from tests.support.builders import START

MIB = 1024 * 1024


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


def outgoing(number: int, namespace: str, **changes: Any) -> Outgoing:
    found = decided(number, namespace, **changes)
    payload = msgspec.json.encode(found)
    return Outgoing(found.id, subjects.decision_subject(namespace), "", payload)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> GatewayMetrics:
    return GatewayMetrics(registry)


@pytest.fixture(params=["memory", "folder"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> OutboxSettings:
    """The way is the same with a folder and without one."""
    return OutboxSettings(path=tmp_path / "outbox" if request.param == "folder" else None)


def told(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"moorgate_{name}", labels)


@asynccontextmanager
async def running(broker: Broker, metrics: GatewayMetrics, settings: OutboxSettings) -> AsyncIterator[Outbox]:
    async with open_outbox(settings, broker, metrics) as outbox:
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


async def test_every_decision_is_stored_once(
    broker: Broker,
    namespace: str,
    metrics: GatewayMetrics,
    settings: OutboxSettings,
    registry: CollectorRegistry,
) -> None:
    async with running(broker, metrics, settings) as outbox:
        for number in range(2000):
            assert await outbox.record(outgoing(number, namespace), 0)
        assert await outbox.record(outgoing(0, namespace), 0)
        await outbox.drain(20)
    found = await stored(broker, namespace)
    assert sorted(found, key=lambda each: int(each.id.rpartition("-")[2])) == [
        decided(number, namespace) for number in range(2000)
    ]
    assert told(registry, "outbox_entries") == 0


async def test_what_nats_did_not_acknowledge_is_published_again_and_stored_once(
    broker: Broker,
    namespace: str,
    metrics: GatewayMetrics,
    settings: OutboxSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher_module, "ACK_TIMEOUT", 0.2)
    monkeypatch.setattr(publisher_module, "TICK", 0.05)
    async with running(broker, metrics, settings) as outbox:
        answered, tries = outbox._publisher._answered, 0

        def losing(number: int, refusal: str) -> None:
            nonlocal tries
            tries += 1
            if tries > 20:
                answered(number, refusal)

        outbox._publisher._answered = losing  # type: ignore[method-assign]
        for number in range(5):
            await outbox.record(outgoing(number, namespace), 0)
        await outbox.drain(20)
    assert tries > 20
    assert len(await stored(broker, namespace)) == 5


async def test_with_nats_away_decisions_wait_and_are_stored_when_it_is_back(
    *,
    nats_server: NatsServer,
    broker: Broker,
    namespace: str,
    metrics: GatewayMetrics,
    settings: OutboxSettings,
    registry: CollectorRegistry,
) -> None:
    async with running(broker, metrics, settings) as outbox:
        await outbox.record(outgoing(0, namespace), 0)
        nats_server.process.kill()
        for number in range(1, 100):
            assert await outbox.record(outgoing(number, namespace), 0)
        assert (told(registry, "outbox_entries") or 0) >= 99
        await nats_server.process.start()
        await outbox.drain(30)
        assert told(registry, "outbox_entries") == 0
    assert [each.id for each in await stored(broker, namespace)] == [f"{namespace}-{n}" for n in range(100)]


async def test_what_another_process_left_is_published_in_its_order_and_before_the_new(
    broker: Broker, namespace: str, metrics: GatewayMetrics, tmp_path: Path
) -> None:
    settings = OutboxSettings(path=tmp_path)
    async with nowhere() as away, running(away, GatewayMetrics(CollectorRegistry()), settings) as outbox:
        for number in range(300):
            await outbox.record(outgoing(number, namespace), 0)
    async with open_outbox(settings, broker, metrics) as outbox:
        await outbox.record(outgoing(300, namespace), 0)
        task = asyncio.create_task(outbox.run())
        await outbox.drain(20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [each.id for each in await stored(broker, namespace)] == [f"{namespace}-{n}" for n in range(301)]
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["lock"]


async def test_what_memory_does_not_keep_is_read_back(
    broker: Broker, namespace: str, metrics: GatewayMetrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "KEPT_BYTES", 3000)
    async with running(broker, metrics, OutboxSettings(path=tmp_path)) as outbox:
        for number in range(50):
            await outbox.record(outgoing(number, namespace), 0)
        assert sum(1 for entry in outbox._entries if entry.outgoing) < 10
        await outbox.drain(20)
    assert len(await stored(broker, namespace)) == 50


@asynccontextmanager
async def nowhere() -> AsyncIterator[Broker]:
    settings = BrokerSettings(url=f"nats://127.0.0.1:{free_port()}")
    async with open_broker(settings, "tests", CommonMetrics(CollectorRegistry())) as broker:
        yield broker


async def test_what_is_left_at_the_stop_goes_to_stdout(
    namespace: str, metrics: GatewayMetrics, settings: OutboxSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with nowhere() as broker, running(broker, metrics, settings) as outbox:
        for number in range(3):
            await outbox.record(outgoing(number, namespace), 0)
        await outbox.drain(0.05)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('{"type"')]
    assert [json.loads(line)["id"] for line in lines] == [f"{namespace}-{n}" for n in range(3)]
    assert msgspec.json.decode(lines[0], type=AdmissionDecided) == decided(0, namespace)


async def test_an_empty_outbox_drains_at_once_and_says_nothing(
    metrics: GatewayMetrics, settings: OutboxSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with nowhere() as broker, running(broker, metrics, settings) as outbox:
        await asyncio.wait_for(outbox.drain(30), 5)
    assert '"type"' not in capsys.readouterr().out


@pytest.mark.parametrize("on_unrecorded", OnUnrecorded)
async def test_where_nobody_takes_the_record_the_setting_decides(
    namespace: str,
    settings: OutboxSettings,
    metrics: GatewayMetrics,
    registry: CollectorRegistry,
    on_unrecorded: OnUnrecorded,
) -> None:
    small = msgspec.structs.replace(settings, limit=MIB, on_unrecorded=on_unrecorded)
    async with nowhere() as broker, running(broker, metrics, small) as outbox:
        big = [outgoing(number, namespace, message="x" * 200_000) for number in range(9)]
        answers = [await outbox.record(each, 0.05) for each in big]
        kept = told(registry, "outbox_entries")
    assert kept is not None
    assert 0 < kept < 9
    assert told(registry, "decisions_unrecorded_total") == 9 - kept
    assert answers == [True] * int(kept) + [on_unrecorded is OnUnrecorded.ANSWER] * (9 - int(kept))


async def test_where_the_folder_is_full_the_answer_waits_for_nats(
    broker: Broker, namespace: str, metrics: GatewayMetrics, registry: CollectorRegistry, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        settings = OutboxSettings(path=tmp_path, limit=MIB, on_unrecorded=OnUnrecorded.DENY)
        outbox = await stack.enter_async_context(running(broker, metrics, settings))
        outbox._folder._limit = 10  # type: ignore[union-attr]
        assert await outbox.record(outgoing(0, namespace), 20)
        assert len(await stored(broker, namespace)) == 1
        assert told(registry, "degraded", part="outbox") == 1
        outbox._folder._limit = MIB  # type: ignore[union-attr]
        assert await outbox.record(outgoing(1, namespace), 20)
        assert told(registry, "degraded", part="outbox") == 0
    assert told(registry, "decisions_unrecorded_total") == 0


async def test_with_durability_ack_the_stream_has_it_when_the_answer_goes(
    *,
    broker: Broker,
    namespace: str,
    metrics: GatewayMetrics,
    settings: OutboxSettings,
    nats_server: NatsServer,
    registry: CollectorRegistry,
) -> None:
    acknowledged = msgspec.structs.replace(
        settings, durability=Durability.ACK, on_unrecorded=OnUnrecorded.DENY
    )
    async with running(broker, metrics, acknowledged) as outbox:
        for number in range(5):
            assert await outbox.record(outgoing(number, namespace), 20)
            assert len(await stored(broker, namespace)) == number + 1
        nats_server.process.pause()
        try:
            began = asyncio.get_running_loop().time()
            assert await outbox.record(outgoing(5, namespace), 0.3), "the outbox has it"
            assert asyncio.get_running_loop().time() - began >= 0.3
        finally:
            nats_server.process.resume()
        assert told(registry, "decisions_unacknowledged_total") == 1
        await outbox.drain(20)
    assert len(await stored(broker, namespace)) == 6


async def test_a_decision_that_cannot_be_published_at_all_does_not_stop_the_others(
    broker: Broker,
    namespace: str,
    metrics: GatewayMetrics,
    settings: OutboxSettings,
    registry: CollectorRegistry,
) -> None:
    async with running(broker, metrics, settings) as outbox:
        assert await outbox.record(outgoing(0, namespace, message="x" * 300_000), 0)
        await outbox.record(outgoing(1, namespace), 0)
        await outbox.drain(20)
    assert [each.id for each in await stored(broker, namespace)] == [f"{namespace}-1"]
    assert told(registry, "decisions_unrecorded_total") == 1
