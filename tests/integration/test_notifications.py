"""Flips reach their targets through a real NATS: each once, none lost, no target delayed by another."""

import asyncio
import hashlib
import hmac
import json
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from aiohttp import web
from nats.js.errors import NotFoundError
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.notifications import notifier, sender
from services.audit_writer.notifications.notifier import open_notifiers
from services.audit_writer.notifications.targets import Kind, Target
from shared import contracts, streams, subjects
from shared.broker import Broker
from shared.contracts import DeadLetter, Result, VerdictFlipped
from shared.lifecycle import background
from shared.settings import Secret
from tests.audit_writer.notifications import flips
from tests.audit_writer.service import eventually
from tests.support.nats import Bell, broker_on

PATH = "/services/T0/hunter2"
HANG = "hang"
Script = int | str | dict[str, Any]


class Receiver:
    """A real HTTP server that answers by its script, then 200, and keeps what it got."""

    def __init__(self, *script: Script) -> None:
        self.script = deque(script)
        self.got: list[tuple[dict[str, str], bytes, str]] = []
        self.times: list[float] = []
        self.bell = Bell()
        self.port = free_port()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{PATH}"

    @property
    def ids(self) -> list[str]:
        return [headers["ce-id"] for headers, _, _ in self.got]

    @asynccontextmanager
    async def up(self, context: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        self.scheme = "https" if context else "http"
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context).start()
            yield self
        finally:
            await runner.cleanup()

    async def received(self, count: int = 1, within: float = 10.0) -> None:
        await self.bell.until(lambda: len(self.got) >= count, within)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.got.append((dict(request.headers), body, request.path))
        self.times.append(asyncio.get_running_loop().time())
        self.bell.ring()
        answer = self.script.popleft() if self.script else 200
        if isinstance(answer, str):
            await asyncio.Event().wait()
        if isinstance(answer, dict):
            return web.Response(**answer)
        return web.Response(status=int(answer), text="ok")


def target_of(receiver: Receiver, kind: Kind = Kind.WEBHOOK, **changes: Any) -> Target:
    """A target of its own durable."""
    return flips.target(kind, receiver.url, name=f"{kind.value}-{secrets.token_hex(4)}", **changes)


def new_flip(result: Result = Result.FAIL, **changes: Any) -> VerdictFlipped:
    """A flip of just now; the stream takes an id only once."""
    return flips.flip(result, **{"id": secrets.token_hex(16), "flipped_at": datetime.now(UTC), **changes})


async def publish(broker: Broker, *events: VerdictFlipped) -> None:
    for event in events:
        await broker.publish(subjects.flip_subject(event.result), event, event.id)


@asynccontextmanager
async def replica(
    server: NatsServer, *targets: Target, metrics: AuditWriterMetrics | None = None
) -> AsyncIterator[None]:
    """An audit-writer's notifiers, with a connection of their own; the durables are there."""
    metrics = metrics or AuditWriterMetrics(CollectorRegistry())
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(broker_on(server))
        for target in targets:
            is_alert = target.kind is Kind.ALERTMANAGER
            await streams.make_notifier(broker, target.name, in_order=is_alert)
        await stack.enter_async_context(background(*await open_notifiers(stack, targets, broker, metrics)))
        yield


async def settled(broker: Broker, *targets: Target) -> None:
    """Every event is taken and acknowledged by each of the targets."""

    async def nothing_left() -> bool:
        stored = (await broker.jetstream.stream_info(subjects.EVENTS)).state.last_seq
        for target in targets:
            durable = subjects.notifier_durable(target.name)
            info = await broker.jetstream.consumer_info(subjects.EVENTS, durable)
            if info.num_ack_pending or info.num_pending or not info.delivered:
                return False
            if info.delivered.stream_seq < stored:
                return False
        return True

    await eventually("all flips are settled", nothing_left)


class Letters:
    """The dead letters from now on."""

    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription

    async def next(self, within: float = 10.0) -> DeadLetter:
        message = await self._subscription.next_msg(within)
        return contracts.decode(message.data, contracts.DEAD_LETTER)


@pytest.fixture
async def letters(broker: Broker) -> Letters:
    subject = subjects.dead_subject(notifier.WHAT)
    await broker.jetstream.purge_stream(subjects.DEAD)
    return Letters(await broker.jetstream.subscribe(subject, ordered_consumer=True))


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(notifier, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(notifier, "LONGEST_DELAY", 0.2)


async def test_each_target_gets_a_flip_once_in_its_form(nats_server: NatsServer, broker: Broker) -> None:
    metrics = AuditWriterMetrics(CollectorRegistry())
    event = new_flip()
    async with Receiver().up() as hook, Receiver().up() as chat, Receiver().up() as alerts:
        targets = (
            target_of(hook, secret=Secret("s3cret")),
            target_of(chat, Kind.SLACK),
            target_of(alerts, Kind.ALERTMANAGER),
        )
        async with replica(nats_server, *targets, metrics=metrics), replica(nats_server, *targets):
            await publish(broker, event, event)  # the stream keeps one
            await asyncio.gather(hook.received(), chat.received(), alerts.received())
            await settled(broker, *targets)
    assert hook.ids == chat.ids == alerts.ids == [event.id]
    [(headers, body, _)] = hook.got
    at, signed = (part.split("=")[1] for part in headers["X-Moorgate-Signature"].split(","))
    assert signed == hmac.new(b"s3cret", f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert abs(int(at) - datetime.now(UTC).timestamp()) < 60
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert headers["Idempotency-Key"] == json.loads(body)["id"] == event.id
    assert b"fails its policy now" in chat.got[0][1]
    assert alerts.got[0][2] == f"{PATH}/api/v2/alerts"


async def test_a_target_that_is_down_gets_it_once_it_is_up_and_delays_no_other(
    nats_server: NatsServer, broker: Broker
) -> None:
    registry = CollectorRegistry()
    down = Receiver(500, 503, 429)
    events = [new_flip(), new_flip()]
    async with Receiver().up() as good:
        targets = (target_of(down), target_of(good))
        with capture_logs() as logged:
            async with replica(nats_server, *targets, metrics=AuditWriterMetrics(registry)):
                await publish(broker, *events)
                await good.received(2)
                assert not down.got
                async with down.up():
                    await down.received(5)
                    await settled(broker, *targets)
        assert sorted(good.ids) == sorted(event.id for event in events)
    assert set(down.ids) == {event.id for event in events}
    assert len(down.ids) == 5
    sent = {"type": "webhook", "result": "sent"}
    assert registry.get_sample_value("moorgate_notifications_total", sent) == 4
    assert registry.get_sample_value("moorgate_notifications_total", {**sent, "result": "retried"})
    name = "moorgate_notification_last_sent_timestamp_seconds"
    assert registry.get_sample_value(name, {"target": targets[0].name})
    shown = json.dumps(logged, default=str)
    assert "cannot connect: Connection refused" in shown
    assert "hunter2" not in shown
    assert str(down.port) not in shown


async def test_a_refusal_is_a_dead_letter_that_names_the_target(
    nats_server: NatsServer, broker: Broker, letters: Letters
) -> None:
    event, next_event = new_flip(), new_flip()
    async with Receiver(400).up() as strict:
        target = target_of(strict)
        async with replica(nats_server, target):
            await publish(broker, event, next_event)
            letter = await letters.next()
            await strict.received(2)
            await settled(broker, target)
    assert letter.what == "notification"
    assert letter.reason == f"target {target.name}: refused: status 400"
    assert contracts.decode(letter.payload, contracts.VERDICT_FLIPPED) == event
    assert b"hunter2" not in contracts.encode(letter)
    assert sorted(strict.ids) == sorted([event.id, next_event.id])


async def test_each_target_that_refuses_leaves_a_letter(
    nats_server: NatsServer, broker: Broker, letters: Letters
) -> None:
    async with Receiver(400).up() as one, Receiver(400).up() as other:
        targets = (target_of(one), target_of(other))
        async with replica(nats_server, *targets):
            await publish(broker, new_flip())
            await settled(broker, *targets)
            reasons = [(await letters.next(2)).reason for _ in targets]
    assert len(set(reasons)) == 2


async def test_a_flip_is_given_up_when_it_is_old_and_was_tried(
    nats_server: NatsServer, broker: Broker, letters: Letters
) -> None:
    old = new_flip(flipped_at=datetime.now(UTC) - timedelta(hours=25))
    async with Receiver(*[500] * 20).up() as broken:
        target = target_of(broken)
        async with replica(nats_server, target):
            await publish(broker, old)
            letter = await letters.next()
            await settled(broker, target)
    assert letter.reason == f"target {target.name}: given up after 5 tries: status 500"
    assert broken.ids == [old.id] * notifier.LEAST_TRIES


async def test_an_old_flip_is_still_told_when_its_target_answers(
    nats_server: NatsServer, broker: Broker
) -> None:
    old = new_flip(flipped_at=datetime.now(UTC) - timedelta(days=3))
    async with Receiver(500).up() as receiver:
        target = target_of(receiver)
        async with replica(nats_server, target):
            await publish(broker, old)
            await receiver.received(2)
            await settled(broker, target)
    assert receiver.ids == [old.id] * 2


async def test_another_replica_sends_what_one_was_sending_when_it_stopped(
    nats_server: NatsServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "NOTIFIER_ACK_WAIT", 1.0)
    event = new_flip()
    async with Receiver(HANG).up() as receiver:
        target = target_of(receiver)
        async with replica(nats_server, target):
            await publish(broker, event)
            await receiver.received()
        async with replica(nats_server, target):
            await receiver.received(2)
            await settled(broker, target)
    assert receiver.ids == [event.id] * 2


async def test_a_target_that_hangs_delays_no_other(
    nats_server: NatsServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "CALL_TIMEOUT", 1.0)
    events = [new_flip() for _ in range(8)]
    async with Receiver(*[HANG] * 6).up() as slow, Receiver().up() as good:
        targets = (target_of(slow, Kind.SLACK), target_of(good))
        async with replica(nats_server, *targets):
            await publish(broker, *events)
            await good.received(8)
            assert len(slow.got) <= 1
            await slow.received(14, within=30)
            await settled(broker, *targets)
    assert set(good.ids) == set(slow.ids) == {event.id for event in events}
    assert len(good.ids) == 8


async def test_a_target_that_asks_for_peace_is_left_in_peace(nats_server: NatsServer, broker: Broker) -> None:
    events = [new_flip(), new_flip()]
    busy: Script = {"status": 429, "headers": {"Retry-After": "1"}}
    async with Receiver(busy).up() as receiver:
        target = target_of(receiver, Kind.SLACK)
        async with replica(nats_server, target):
            await publish(broker, *events)
            await receiver.received(3)
            await settled(broker, target)
    assert receiver.times[1] - receiver.times[0] >= 0.95
    assert sorted(receiver.ids[1:]) == sorted(event.id for event in events)


async def test_alertmanager_gets_flips_in_their_order(nats_server: NatsServer, broker: Broker) -> None:
    fails, passes = new_flip(), new_flip(Result.PASS)
    async with Receiver(503, 503).up() as receiver:
        target = target_of(receiver, Kind.ALERTMANAGER)
        async with replica(nats_server, target), replica(nats_server, target):
            await publish(broker, fails, passes)
            await receiver.received(4)
            await settled(broker, target)
    assert receiver.ids == [fails.id] * 3 + [passes.id]


async def test_redirections_are_not_followed(nats_server: NatsServer, broker: Broker) -> None:
    async with Receiver().up() as elsewhere:
        away: Script = {"status": 307, "headers": {"Location": elsewhere.url}}
        async with Receiver(away).up() as receiver:
            target = target_of(receiver)
            async with replica(nats_server, target):
                await publish(broker, new_flip())
                await receiver.received(2)
                await settled(broker, target)
    assert not elsewhere.got


async def test_a_new_target_begins_with_new_flips_and_goes_on_after_a_restart(
    nats_server: NatsServer, broker: Broker
) -> None:
    before, during, between = new_flip(), new_flip(), new_flip()
    await publish(broker, before)
    async with Receiver().up() as receiver:
        target = target_of(receiver)
        async with replica(nats_server, target):
            await publish(broker, during)
            await receiver.received()
            await settled(broker, target)
        await publish(broker, between)
        async with replica(nats_server, target):
            await receiver.received(2)
            await settled(broker, target)
    assert receiver.ids == [during.id, between.id]


async def test_what_a_target_does_not_want_is_settled_without_a_call(
    nats_server: NatsServer, broker: Broker
) -> None:
    async with Receiver().up() as receiver:
        target = target_of(receiver, on=(Result.FAIL,), namespaces=("shop",))
        async with replica(nats_server, target):
            wanted = new_flip()
            await publish(broker, new_flip(Result.PASS), new_flip(namespace="other"), wanted)
            await receiver.received()
            await settled(broker, target)
    assert receiver.ids == [wanted.id]


async def test_a_certificate_is_checked_against_the_targets_own_authority(
    nats_server: NatsServer, broker: Broker, tmp_path: Path
) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with Receiver().up(context) as receiver:
        trusting = target_of(receiver, ca_file=tmp_path / "ca.pem")
        wary = target_of(receiver)
        with capture_logs() as logged:
            async with replica(nats_server, trusting, wary):
                await publish(broker, new_flip())
                await receiver.received()
                await settled(broker, trusting)
                await eventually("the other says why not", _said(logged, "not trusted", wary.name))
    assert len(receiver.got) == 1


def _said(logged: Any, words: str, target: str) -> Any:
    async def said() -> bool:
        return any(words in str(entry.get("why")) and entry.get("target") == target for entry in logged)

    return said


async def test_a_bearer_token_is_read_anew_at_each_try(
    nats_server: NatsServer, broker: Broker, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with Receiver(500).up() as receiver:
        headers = {"X-Key": Secret("k")}
        target = target_of(receiver, bearer_token_file=token, headers=headers)
        async with replica(nats_server, target):
            await publish(broker, new_flip())
            await receiver.received()
            token.write_text("second\n")
            await settled(broker, target)
    seen = [headers["Authorization"] for headers, _, _ in receiver.got]
    assert (seen[0], seen[-1]) == ("Bearer first", "Bearer second")
    assert receiver.got[0][0]["X-Key"] == "k"


async def test_an_id_of_any_text_is_no_header_of_its_own(nats_server: NatsServer, broker: Broker) -> None:
    event = new_flip(id=f"é\r\nX-Evil: 1 {secrets.token_hex(4)}")
    async with Receiver().up() as receiver:
        target = target_of(receiver)
        async with replica(nats_server, target):
            await broker.publish(subjects.flip_subject("fail"), event, secrets.token_hex(4))
            await receiver.received()
            await settled(broker, target)
    [(headers, body, _)] = receiver.got
    assert headers["ce-id"].startswith("%C3%A9%0D%0AX-Evil:%201%20")
    assert "X-Evil" not in headers
    assert json.loads(body)["id"] == event.id


async def test_the_durable_of_a_forgotten_target_goes_by_itself(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "NOTIFIER_INACTIVE", 0.5)
    name = f"t-{secrets.token_hex(4)}"
    await streams.make_notifier(broker, name, in_order=False)

    async def is_gone() -> bool:
        try:
            await broker.jetstream.consumer_info(subjects.EVENTS, subjects.notifier_durable(name))
        except NotFoundError:
            return True
        return False

    await eventually("the durable is gone", is_gone)


async def test_the_durables_bounds_hold_together() -> None:
    """A durable outlives what it waits for, and a call ends before another replica takes it over."""
    plain = streams.notifier_consumer("a", in_order=False)
    [events] = [each for each in streams.stream_configs(1) if each.name == subjects.EVENTS]
    assert plain.inactive_threshold == events.max_age
    assert sender.CALL_TIMEOUT <= streams.NOTIFIER_ACK_WAIT / 2
    assert msgspec.structs.asdict(flips.target())["give_up_after"] <= plain.inactive_threshold
