"""What Moorgate keeps in JetStream, said once: `moorgate streams apply` makes it, services check it.

Services never create streams: they wait for what is missing and say so. The lanes of the tenants are
the exception (the scanner makes their durables when a tenant appears), and the targets of notifications (the
audit-writer makes theirs).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from shared import logs, subjects
from shared.broker import Broker
from shared.errors import BadSetting, Unavailable
from shared.settings import Environment

ACK_WAIT = 8.0
"""Seconds until a delivery whose worker died comes again; live workers renew it by `in_progress`."""

MAX_ACK_PENDING = 100_000
"""Far above what can be put off at once: a small bound stops the lane when so many naks are waiting."""

MARKER_TTL = 60 * 60
"""Seconds an expiry marker lives: longer than any mirror stays away without reading everything anew."""

NOTIFIER_ACK_WAIT = 30.0
"""Seconds until a notification whose sender died is sent by another: a call takes at most half of that."""

NOTIFIER_INACTIVE = 7 * 86400.0
"""Seconds until the durable of a target that no replica knows any more is removed: by then the stream has dropped
whatever it was waiting for."""

_HOUR, _DAY = 3600.0, 86400.0
_MIB = 1 << 20
RETRY = 1.0
"""Seconds between two looks for what is missing."""


def load_replicas(environment: Environment) -> int:
    """How many servers keep each message. Raises `BadSetting`."""
    replicas = environment.integer("MOORGATE_NATS_REPLICAS", 1)
    if replicas not in (1, 3):
        raise BadSetting(f"MOORGATE_NATS_REPLICAS is {replicas}: it must be 1 or 3")
    return replicas


def stream_configs(replicas: int) -> list[StreamConfig]:
    """Streams and buckets (a bucket is a stream `KV_<bucket>`), with every limit set on purpose."""
    return [
        StreamConfig(
            name=subjects.SCANS,
            subjects=[subjects.SCAN_SUBJECTS],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=1,
            max_age=_HOUR,
            max_bytes=256 * _MIB,
            max_msg_size=256 * 1024,
            num_replicas=replicas,
            allow_direct=True,
        ),
        StreamConfig(
            name=subjects.EVENTS,
            subjects=[subjects.EVENT_SUBJECTS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=7 * _DAY,
            max_bytes=2048 * _MIB,
            max_msg_size=256 * 1024,
            duplicate_window=600,
            num_replicas=replicas,
            allow_direct=True,
        ),
        StreamConfig(
            name=subjects.DEAD,
            subjects=[subjects.DEAD_SUBJECTS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=30 * _DAY,
            max_bytes=256 * _MIB,
            num_replicas=replicas,
            allow_direct=True,
        ),
        *(_bucket(name, size, replicas) for name, size in _BUCKETS.items()),
    ]


_BUCKETS = {
    subjects.VERDICTS: 1024 * _MIB,
    subjects.SCAN_STATES: 256 * _MIB,
    subjects.TENANTS: 64 * _MIB,
    subjects.RUNNING: 256 * _MIB,
}
"""Buckets and their bytes: NATS sets all of it aside at once, 4 GiB with the streams."""


def durables() -> list[tuple[str, ConsumerConfig]]:
    """The durables that `apply` makes: stream and configuration."""
    audit_writer = ConsumerConfig(
        durable_name=subjects.AUDIT_WRITER,
        filter_subject=subjects.DECISION_SUBJECTS,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=30,
        max_deliver=-1,
        max_ack_pending=20_000,
    )
    return [(subjects.EVENTS, audit_writer)]


def lane_consumer(lane: subjects.Lane, tenant: str) -> ConsumerConfig:
    """One tenant's lane: deliveries without limit, for a pending image is nak'ed many times."""
    return ConsumerConfig(
        durable_name=subjects.lane_durable(lane, tenant),
        filter_subject=subjects.lane_subjects(lane, tenant),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT,
        max_deliver=-1,
        max_ack_pending=MAX_ACK_PENDING,
    )


def notifier_consumer(target: str, *, in_order: bool) -> ConsumerConfig:
    """One target of notifications, from the first flip after it was made.

    Nobody deletes it: two replicas may have different files while they are exchanged. It goes by itself
    once nobody has pulled for `NOTIFIER_INACTIVE`.

    `in_order`: nothing is delivered before what came before it is settled, however long that is put off.
    """
    return ConsumerConfig(
        durable_name=subjects.notifier_durable(target),
        filter_subject=subjects.FLIP_SUBJECTS,
        deliver_policy=DeliverPolicy.NEW,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=NOTIFIER_ACK_WAIT,
        max_deliver=-1,
        max_ack_pending=1 if in_order else MAX_ACK_PENDING,
        inactive_threshold=NOTIFIER_INACTIVE,
    )


async def make_notifier(broker: Broker, target: str, *, in_order: bool) -> None:
    """The target's durable, once the streams are there; an existing one goes on where it is. Raises `Unavailable`."""
    await wait_for_streams(broker, subjects.EVENTS, subjects.DEAD)
    consumer = notifier_consumer(target, in_order=in_order)
    with _naming(f"{subjects.EVENTS}/{consumer.durable_name}"):
        await broker.jetstream.add_consumer(subjects.EVENTS, consumer)


class Backlog(NamedTuple):
    """What waits for one durable."""

    waiting: int
    """Messages that nobody has looked at yet."""
    put_off: int
    """Messages taken or given back with a delay."""


async def lane_backlog(broker: Broker, lane: subjects.Lane, tenant: str) -> Backlog:
    """How much lies in a lane. Raises `Unavailable`."""
    durable = subjects.lane_durable(lane, tenant)
    with _naming(f"{subjects.SCANS}/{durable}", "cannot be read"):
        info = await broker.jetstream.consumer_info(subjects.SCANS, durable)
    return Backlog(waiting=info.num_pending or 0, put_off=info.num_ack_pending or 0)


async def decision_backlog(broker: Broker) -> Backlog:
    """How many decisions wait for an audit-writer. Raises `Unavailable`."""
    with _naming(f"{subjects.EVENTS}/{subjects.AUDIT_WRITER}", "cannot be read"):
        info = await broker.jetstream.consumer_info(subjects.EVENTS, subjects.AUDIT_WRITER)
    return Backlog(waiting=info.num_pending or 0, put_off=info.num_ack_pending or 0)


async def oldest_request(broker: Broker, lane: subjects.Lane, tenant: str) -> datetime | None:
    """When the oldest request in a lane was published; None: there is none. Raises `Unavailable`."""
    wanted = subjects.lane_subjects(lane, tenant)
    with _naming(f"{subjects.SCANS} {wanted}", "cannot be read"):
        try:
            message = await broker.jetstream.get_msg(subjects.SCANS, seq=1, subject=wanted, next=True)
        except nats.js.errors.NotFoundError:
            return None
    return message.time


async def make_lane(broker: Broker, lane: subjects.Lane, tenant: str) -> None:
    """The durable of a tenant's lane. Raises `Unavailable`."""
    with _naming(f"{subjects.SCANS}/{subjects.lane_durable(lane, tenant)}"):
        await broker.jetstream.add_consumer(subjects.SCANS, lane_consumer(lane, tenant))


async def remove_lane(broker: Broker, lane: subjects.Lane, tenant: str) -> None:
    """The tenant is gone: its lane's durable, and what waits there. Raises `Unavailable`."""
    durable = subjects.lane_durable(lane, tenant)
    with _naming(f"{subjects.SCANS}/{durable}", "cannot be removed"):
        with suppress(nats.js.errors.NotFoundError):
            await broker.jetstream.delete_consumer(subjects.SCANS, durable)
        await broker.jetstream.purge_stream(subjects.SCANS, subject=subjects.lane_subjects(lane, tenant))


async def apply(broker: Broker, replicas: int) -> list[str]:
    """Create or update everything; gives the names, in order. Idempotent, safe at every upgrade.

    Raises `Unavailable` with the name that NATS refused and why.
    """
    names = []
    for config in stream_configs(replicas):
        with _naming(str(config.name)):
            await _apply_stream(broker, config)
        names.append(str(config.name))
    for stream, consumer in durables():
        name = f"{stream}/{consumer.durable_name}"
        with _naming(name):
            await broker.jetstream.add_consumer(stream, consumer)
        names.append(name)
    return names


@contextmanager
def _naming(name: str, what: str = "cannot be made") -> Iterator[None]:
    try:
        yield
    except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
        raise Unavailable("nats", f"{name} {what}: {type(error).__name__} {error}") from error


async def wait_for_streams(broker: Broker, *names: str) -> None:
    """Wait until the streams are there, saying every few seconds which are not."""
    await broker.connected()
    log = logs.logger("streams")
    missing: list[str] = []
    while True:
        found = [name for name in names if not await _exists(broker, name)]
        if not found:
            return
        if found != missing:
            log.warning("streams_missing", missing=found, mend="run: moorgate streams apply")
        missing = found
        await asyncio.sleep(RETRY)


def bucket_stream(bucket: str) -> str:
    """The stream behind a bucket (ADR-8 of the NATS architecture)."""
    return f"KV_{bucket}"


def _bucket(name: str, size: int, replicas: int) -> StreamConfig:
    return StreamConfig(
        name=bucket_stream(name),
        subjects=[f"$KV.{name}.>"],
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_msgs_per_subject=1,
        max_bytes=size,
        max_msg_size=256 * 1024,
        num_replicas=replicas,
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
        allow_msg_ttl=True,
        subject_delete_marker_ttl=MARKER_TTL,
    )


async def _apply_stream(broker: Broker, config: StreamConfig) -> None:
    if await _exists(broker, str(config.name)):
        await broker.jetstream.update_stream(config)
    else:
        await broker.jetstream.add_stream(config)


async def _exists(broker: Broker, name: str) -> bool:
    try:
        await broker.jetstream.stream_info(name)
    except nats.js.errors.NotFoundError:
        return False
    except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
        logs.logger("streams").warning("stream_not_readable", stream=name, error=str(error))
        return False
    return True
