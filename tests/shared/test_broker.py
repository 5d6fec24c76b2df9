"""Publishing on a real server: once by id, refused where one waits, and honest about what is not known."""

import asyncio
import gc
import io
import secrets
import warnings
from collections.abc import Callable

import pytest
import structlog
import uvloop
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from shared import broker as broker_module
from shared import contracts, logs, streams, subjects
from shared.broker import Broker, BrokerSettings, open_broker
from shared.contracts import DeadLetter, ScanRequest
from shared.errors import BadSetting, Conflict, Permanent, Unavailable
from shared.logs import LogFormat, LogLevel
from shared.metrics import CommonMetrics
from shared.settings import Environment, Secret
from shared.subjects import Lane
from tests.support.builders import START
from tests.support.nats import broker_on
from tests.support.proxies import Throttle
from tests.support.road import until


def letter(what: str = "test", payload: bytes = b"x") -> DeadLetter:
    return DeadLetter(
        what=what,
        reason="r",
        subject="s",
        stream="S",
        sequence=1,
        deliveries=1,
        died_at=START,
        payload=payload,
    )


@pytest.fixture
def subject() -> str:
    return subjects.dead_subject(secrets.token_hex(4))


async def count(broker: Broker, subject: str) -> int:
    info = await broker.jetstream.stream_info(subjects.DEAD, subjects_filter=subject)
    return sum((info.state.subjects or {}).values())


async def test_the_same_id_is_stored_once(broker: Broker, subject: str) -> None:
    for _ in range(3):
        await broker.publish(subject, letter(), f"{subject}-1")
    await broker.publish(subject, letter(), f"{subject}-2")
    assert await count(broker, subject) == 2


async def test_a_message_carries_cloud_events_attributes(broker: Broker, subject: str) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    await broker.publish(subject, letter(), f"{subject}-1", trace)
    stored = await broker.jetstream.get_last_msg(subjects.DEAD, subject)
    headers = stored.headers or {}
    time = headers.pop("ce-time")
    assert time.endswith("+00:00")
    assert headers == {
        "Nats-Msg-Id": f"{subject}-1",
        "ce-specversion": "1.0",
        "ce-id": f"{subject}-1",
        "ce-type": "moorgate.v1.dead-letter",
        "ce-source": "tests",
        "traceparent": trace,
    }
    assert contracts.decode(stored.data or b"", contracts.DEAD_LETTER) == letter()
    await broker.publish(subject, letter(), f"{subject}-2")
    own = (await broker.jetstream.get_last_msg(subjects.DEAD, subject)).headers or {}
    assert len(own["traceparent"]) == len(trace)
    assert own["traceparent"] != trace


async def test_a_message_that_is_too_large_is_permanent(broker: Broker, subject: str) -> None:
    with pytest.raises(Permanent):
        await broker.publish(subject, letter(payload=b"x" * 300_000), "1")
    assert await count(broker, subject) == 0


async def test_a_subject_that_no_stream_takes_is_told(broker: Broker) -> None:
    with pytest.raises(Unavailable, match="nats is away"):
        await broker.publish("moorgate.v1.nowhere", letter(), "1")


async def test_a_second_request_of_a_key_is_refused_until_the_first_is_done(broker: Broker) -> None:
    tenant = f"t-{secrets.token_hex(4)}"
    await broker.jetstream.add_consumer(subjects.SCANS, streams.lane_consumer(Lane.ADMISSION, tenant))
    request = ScanRequest(tenant=tenant, image="docker.io/library/nginx:1", bundle_id="b", asked_at=START)
    subject = subjects.scan_subject(Lane.ADMISSION, tenant, request.key)
    results = await asyncio.gather(*(broker.publish_unless_waiting(subject, request) for _ in range(20)))
    assert sorted(results) == [False] * 19 + [True]
    durable = subjects.lane_durable(Lane.ADMISSION, tenant)
    pull = await broker.jetstream.pull_subscribe_bind(consumer=durable, stream=subjects.SCANS)
    [message] = await pull.fetch(1, timeout=5)
    assert message.headers is not None
    assert "Nats-Msg-Id" not in message.headers
    assert await broker.publish_unless_waiting(subject, request) is False, "it is being worked on"
    await message.nak(delay=30)
    await broker.client.flush()
    assert await broker.publish_unless_waiting(subject, request) is False, "it is put off"
    await broker.jetstream.purge_stream(subjects.SCANS, subject=subject)
    assert await broker.publish_unless_waiting(subject, request) is True
    [message] = await pull.fetch(1, timeout=5)
    await message.ack_sync()
    assert await broker.publish_unless_waiting(subject, request) is True, "repeated rightly, at once"
    other = subjects.scan_subject(Lane.RESCAN, tenant, request.key)
    assert await broker.publish_unless_waiting(other, request) is True, "lanes do not hinder one another"


async def test_a_write_over_another_revision_is_a_conflict(broker: Broker, subject: str) -> None:
    with pytest.raises(Conflict):
        await broker.publish_raw(subject, b"x", {"Nats-Expected-Last-Subject-Sequence": "999"})


async def test_without_a_server_publishing_fails_at_once_and_opening_does_not() -> None:
    metrics = CommonMetrics(CollectorRegistry())
    settings = BrokerSettings(url=f"nats://127.0.0.1:{free_port()}")
    async with asyncio.timeout(5), open_broker(settings, "tests", metrics) as broker:
        assert not broker.is_connected
        for publish in (
            broker.publish("a.b", letter(), "1"),
            broker.publish_unless_waiting("a.b", letter()),
        ):
            with pytest.raises(Unavailable, match="not connected"):
                await publish
        assert metrics.degraded.labels("nats")._value.get() == 1


async def test_a_reconnection_is_told_and_publishing_goes_on(nats_server: NatsServer, subject: str) -> None:
    async with broker_on(nats_server) as broker:
        await streams.apply(broker, 1)
        again = asyncio.Event()
        broker.on_reconnect(again.set)
        nats_server.process.kill()
        await nats_server.process.start()
        await asyncio.wait_for(again.wait(), 5)
        assert broker.is_connected
        await broker.publish(subject, letter(), f"{subject}-1")
        assert await count(broker, subject) == 1


async def test_no_attempt_to_reconnect_leaves_its_connection_open(nats_server: NatsServer) -> None:
    throttle = Throttle(nats_server.port)
    metrics = CommonMetrics(CollectorRegistry())
    async with throttle.running() as port:
        settings = BrokerSettings(url=f"nats://127.0.0.1:{port}")
        async with open_broker(settings, "tests", metrics) as broker:
            await broker.connected()
            gc.collect()  # what others have left
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always", ResourceWarning)
                throttle.is_open, taken = False, throttle.taken
                nats_server.process.kill()
                await until(lambda: after(throttle, taken + 3), "three attempts were hung up on")
                await nats_server.process.start()
                throttle.is_open = True
                await until(lambda: is_back(broker), "it is connected again")
                gc.collect()
    assert [str(each.message) for each in seen] == []


async def test_nats_silent_at_the_end_hides_nothing_of_what_went_wrong(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "DRAIN_TIMEOUT", 1.0)

    async def fail() -> None:
        async with broker_on(nats_server):
            nats_server.process.pause()
            raise Permanent("the reason")

    try:
        with pytest.raises(Permanent, match="the reason"):
            await fail()
    finally:
        nats_server.process.resume()


@pytest.mark.parametrize(
    "loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_what_is_unsent_when_nats_is_gone_is_no_error_at_the_end(
    loop: Callable[[], asyncio.AbstractEventLoop], nats_server: NatsServer
) -> None:
    async def leave_with_something_unsent() -> None:
        try:
            async with broker_on(nats_server) as broker:
                nats_server.process.kill()
                await until(lambda: is_away(broker), "the connection is seen to be gone")
                await broker.client.publish("somewhere", b"x" * 1000)
                assert broker.client.pending_data_size > 1000
        finally:
            await nats_server.process.start()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(leave_with_something_unsent())


async def is_away(broker: Broker) -> bool:
    return not broker.is_connected


async def after(throttle: Throttle, count: int) -> bool:
    return throttle.taken >= count


async def is_back(broker: Broker) -> bool:
    return broker.is_connected


async def test_a_password_in_the_url_is_not_logged(nats_server: NatsServer) -> None:
    lines = io.StringIO()
    logs.set_up(LogLevel.DEBUG, LogFormat.JSON, lines)
    try:
        url = nats_server.url.replace("nats://", "nats://moorgate:hunter2@")
        metrics = CommonMetrics(CollectorRegistry())
        async with open_broker(BrokerSettings(url=url), "tests", metrics) as broker:
            await asyncio.wait_for(broker.connected(), 5)
    finally:
        structlog.reset_defaults()
    assert f"127.0.0.1:{nats_server.port}" in lines.getvalue()
    assert "hunter2" not in lines.getvalue()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:4222", "nats://127.0.0.1:port", "nats://a,ws://b", "nats://"]
)
def test_a_url_that_cannot_be_used_stops_the_process_at_once(url: str) -> None:
    with pytest.raises(BadSetting, match="MOORGATE_NATS_URL must be"):
        BrokerSettings.load(Environment({"MOORGATE_NATS_URL": url}))


@pytest.mark.parametrize(
    "url",
    [
        "nats://127.0.0.1:4222",
        "nats",
        "nats:4222",
        "tls://nats.example",
        "nats://a:4222,nats://b:4222",
        "wss://a",
    ],
)
def test_urls_as_nats_knows_them(url: str) -> None:
    settings = BrokerSettings.load(Environment({"MOORGATE_NATS_URL": url, "MOORGATE_NATS_PASSWORD": "x"}))
    assert settings.url == url
    assert isinstance(settings.password, Secret)
    assert "'x'" not in repr(settings)


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(BadSetting, match="MOORGATE_NATS_CERT_FILE and MOORGATE_NATS_KEY_FILE"):
        BrokerSettings.load(Environment({"MOORGATE_NATS_CERT_FILE": __file__}))


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [
        (BrokerSettings(url="nats://a"), "_INBOX"),
        (BrokerSettings(url="nats://a", user="audit-writer"), "_INBOX_audit-writer"),
        (BrokerSettings(url="nats://scanner:x@a,nats://b"), "_INBOX_scanner"),
        (BrokerSettings(url="nats://a", user="gateway", creds_file="f"), "_INBOX_gateway"),
        (BrokerSettings(url="nats://a", user="a.b"), "_INBOX"),
        (BrokerSettings(url="nats://a", user=">"), "_INBOX"),
    ],
)
def test_answers_come_to_inboxes_of_the_user(settings: BrokerSettings, prefix: str) -> None:
    assert settings.inbox_prefix == prefix
