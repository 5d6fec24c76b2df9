"""What NATS tells of Moorgate: streams and buckets, who pulls from the queues and what waits there, tenants, gateways, dead letters.

Read as the user `operator` (docs/nats.md); nothing is changed.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerInfo

from services.cli import frame
from services.cli.output import age
from services.cli.status_parts import Health, Look, Part
from shared import streams, subjects
from shared.broker import Broker
from shared.contracts import TenantRecord
from shared.errors import MoorgateError, Unavailable
from shared.subjects import Lane
from shared.verdict_store import VerdictBuckets

OLD_REQUEST = timedelta(minutes=5)
"""A scan that nobody has taken for so long."""

OLD_RECORD = timedelta(minutes=2)
"""A tenant's record, which a scanner writes every 30 s."""

PING, MORE = 5.0, 0.5
"""Seconds for the first gateway to say that it is there, and for the others after it."""

_LOOKS, _BETWEEN = 6, 0.5
"""Times, and seconds between: who pulls asks anew all the time, and a look may fall in between."""


def looks(broker: Broker) -> list[tuple[str, Look]]:
    """All of them, by name."""
    status = _NatsStatus(broker)
    return [
        ("streams", status.streams),
        ("gateways", status.gateways),
        ("tenants", status.tenants),
        ("decisions", status.decisions),
        ("dead letters", status.dead_letters),
    ]


class _Pulled(NamedTuple):
    """A durable, and whether somebody pulls from it. What is taken or put off says nothing of that: its taker may be dead."""

    info: ConsumerInfo
    is_pulled: bool


class _NatsStatus:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._jetstream = broker.jetstream

    async def streams(self) -> list[Part]:
        """Whether all are there."""
        wanted = [str(config.name) for config in streams.stream_configs(1)]
        missing = [name for name in wanted if await self._messages(name) is None]
        if missing:
            detail = f"missing: {', '.join(missing)}; run moorgate streams apply"
            return [Part("streams", Health.BAD, detail)]
        return [Part("streams", Health.OK, f"{len(wanted)} streams and buckets are there")]

    async def gateways(self) -> list[Part]:
        """How many answer questions about verdicts."""
        inbox = self._broker.client.new_inbox()
        answers: list[Msg] = []
        answered = asyncio.Event()

        async def take(message: Msg) -> None:
            answers.append(message)
            answered.set()

        with self._naming("the gateways' micro service", "$SRV.PING"):
            subscription = await self._broker.client.subscribe(inbox, cb=take)
            await self._broker.client.publish(f"$SRV.PING.{subjects.QUESTION_SERVICE}", reply=inbox)
            with suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), PING)
                await asyncio.sleep(MORE)
            await subscription.unsubscribe()
        count = sum(message.headers is None or "Status" not in message.headers for message in answers)
        if not count:
            return [Part("gateways", Health.BAD, "none answers on NATS: unknown images get no verdict")]
        return [Part("gateways", Health.OK, f"{count} on NATS")]

    async def tenants(self) -> list[Part]:
        """Each tenant's record, and its lanes."""
        parts = [part async for name in self._tenant_names() async for part in self._tenant(name)]
        return parts or [
            Part("tenants", Health.BAD, "no tenant has a record: no scanner runs, or none reads its tenants")
        ]

    async def decisions(self) -> list[Part]:
        """What waits for the audit-writers."""
        info = await self._pulled(subjects.EVENTS, subjects.AUDIT_WRITER)
        if info is None:
            return [Part("decisions", Health.BAD, "their durable is missing: run moorgate streams apply")]
        return [_queue("decisions", info, "audit-writer", None)]

    async def dead_letters(self) -> list[Part]:
        """How many there are."""
        count = await self._messages(subjects.DEAD)
        if count:
            return [Part("dead letters", Health.ATTENTION, f"{count}: look with moorgate dead list")]
        return [Part("dead letters", Health.OK, "none")]

    async def _tenant_names(self) -> AsyncIterator[str]:
        prefix = f"$KV.{subjects.TENANTS}."
        with self._naming(subjects.TENANTS, streams.bucket_stream(subjects.TENANTS)):
            info = await self._jetstream.stream_info(
                streams.bucket_stream(subjects.TENANTS), subjects_filter=f"{prefix}>"
            )
        for subject in sorted(info.state.subjects or {}):
            yield subject.removeprefix(prefix)

    async def _tenant(self, name: str) -> AsyncIterator[Part]:
        record = await VerdictBuckets(self._broker).tenant(name)
        if record is None:  # gone: its marker is still there
            return
        yield _record(record, datetime.now(UTC))
        for lane in Lane:
            title = f"queue {lane}/{name}"
            info = await self._pulled(subjects.SCANS, subjects.lane_durable(lane, name))
            if info is None:
                yield Part(title, Health.BAD, "the lane is missing: no scanner serves this tenant")
            else:
                oldest = await streams.oldest_request(self._broker, lane, name)
                yield _queue(title, info, "scanner", oldest)

    async def _pulled(self, stream: str, durable: str) -> "_Pulled | None":
        """The durable, looked at until somebody pulls from it or it is sure that nobody does; None: there is none."""
        first = last = await self._look_at(stream, durable)
        for _ in range(_LOOKS):
            if first is None or last is None or last.num_waiting or _has_moved(first, last):
                break
            await asyncio.sleep(_BETWEEN)
            last = await self._look_at(stream, durable)
        if first is None or last is None:
            return None
        return _Pulled(last, is_pulled=bool(last.num_waiting) or _has_moved(first, last))

    async def _look_at(self, stream: str, durable: str) -> ConsumerInfo | None:
        with self._naming(f"{stream}/{durable}", stream, durable):
            try:
                info: ConsumerInfo = await self._jetstream.consumer_info(stream, durable)
            except nats.js.errors.NotFoundError:
                return None
        return info

    async def _messages(self, stream: str) -> int | None:
        """How many messages it has; None: there is no such stream."""
        with self._naming(stream, stream):
            try:
                return int((await self._jetstream.stream_info(stream)).state.messages)
            except nats.js.errors.NotFoundError:
                return None

    @contextmanager
    def _naming(self, what: str, *words: str) -> Iterator[None]:
        """`words`: parts of the subject that is asked on."""
        try:
            yield
        except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
            if refused := frame.refused_permission(self._broker, *words):
                raise MoorgateError(f"this user of NATS may not look: {refused}; see docs/nats.md") from error
            raise Unavailable("nats", f"{what}: {type(error).__name__} {error}") from error


def _record(record: TenantRecord, now: datetime) -> Part:
    name, read = f"tenant {record.tenant}", f"read {age(record.read_at, now)} ago"
    if record.away_since is not None:
        return Part(name, Health.BAD, f"its Anchore has been away for {age(record.away_since, now)}; {read}")
    if now - record.read_at > OLD_RECORD:
        return Part(name, Health.BAD, f"no scanner has read its bundles lately: {read}")
    if record.active_bundle_id is None:
        return Part(name, Health.BAD, f"no policy bundle is active; {read}")
    return Part(name, Health.OK, f"bundle {record.active_bundle_id}, {len(record.bundles)} known, {read}")


def _queue(name: str, pulled: _Pulled, puller: str, oldest: datetime | None) -> Part:
    info = pulled.info
    detail = f"{info.num_pending or 0} waiting, {info.num_ack_pending or 0} taken or put off"
    now = datetime.now(UTC)
    if oldest is not None:
        detail += f", the oldest {age(oldest, now)}"
    if not pulled.is_pulled and info.num_ack_pending and not info.num_pending:
        return Part(name, Health.ATTENTION, f"{detail}; no {puller} asks for more: it is busy, or gone")
    if not pulled.is_pulled:
        return Part(name, Health.BAD, f"{detail}; no {puller} takes any")
    if oldest is not None and info.num_pending and now - oldest > OLD_REQUEST:
        return Part(name, Health.ATTENTION, detail)
    return Part(name, Health.OK, detail)


def _has_moved(before: ConsumerInfo, after: ConsumerInfo) -> bool:
    """Whether anything was handed out or acknowledged between two looks: somebody has as many as it wants, and works."""
    return (before.delivered, before.ack_floor) != (after.delivered, after.ack_floor)
