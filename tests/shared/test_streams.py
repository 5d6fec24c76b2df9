"""What is kept in JetStream is as the contract says, and making it twice changes nothing."""

import asyncio

import msgspec
import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType

from deploy.dev.nats import NatsServer
from shared import streams, subjects
from shared.broker import Broker
from shared.errors import Unavailable
from tests.support.nats import broker_on

NAMES = [
    "MOORGATE_SCANS",
    "MOORGATE_EVENTS",
    "MOORGATE_DEAD",
    "KV_moorgate_verdicts",
    "KV_moorgate_scan_states",
    "KV_moorgate_tenants",
    "KV_moorgate_running",
]


async def test_apply_twice_changes_nothing(broker: Broker) -> None:
    async def configs() -> list[object]:
        found: list[object] = [(await broker.jetstream.stream_info(name)).config for name in NAMES]
        durable = await broker.jetstream.consumer_info(subjects.EVENTS, subjects.AUDIT_WRITER)
        return [*found, durable.config, durable.created]

    before = await configs()
    assert await streams.apply(broker, 1) == [*NAMES, "MOORGATE_EVENTS/audit-writer"]
    assert await configs() == before


async def test_the_server_keeps_what_the_design_says(broker: Broker) -> None:
    scans = (await broker.jetstream.stream_info("MOORGATE_SCANS")).config
    assert scans.subjects == ["moorgate.v1.scan.*.*.*"]
    assert (scans.retention, scans.discard) == (RetentionPolicy.WORK_QUEUE, DiscardPolicy.NEW)
    assert (scans.max_msgs_per_subject, scans.discard_new_per_subject, scans.max_age) == (1, True, 3600)
    events = (await broker.jetstream.stream_info("MOORGATE_EVENTS")).config
    assert (events.subjects, events.retention) == (["moorgate.v1.event.>"], RetentionPolicy.LIMITS)
    assert events.max_age == 7 * 86400
    assert (events.max_bytes or 0) > 0
    dead = (await broker.jetstream.stream_info("MOORGATE_DEAD")).config
    assert dead.subjects == ["moorgate.v1.dead.>"]
    for name in NAMES[3:]:
        bucket = (await broker.jetstream.stream_info(name)).config
        assert bucket.subjects == [f"$KV.{name.removeprefix('KV_')}.>"]
        assert (bucket.max_msgs_per_subject, bucket.allow_msg_ttl, bucket.storage) == (
            1,
            True,
            StorageType.FILE,
        )
        assert (bucket.subject_delete_marker_ttl or 0) > 0


async def test_nothing_larger_than_a_message_is_stored(broker: Broker) -> None:
    for name in NAMES:
        if name == "MOORGATE_DEAD":
            continue
        config = (await broker.jetstream.stream_info(name)).config
        assert config.max_msg_size == 256 * 1024


async def test_an_older_configuration_is_brought_up_to_date(broker: Broker) -> None:
    [config] = [each for each in streams.stream_configs(1) if each.name == subjects.DEAD]
    config.max_age = 3600.0
    await broker.jetstream.update_stream(config)
    await streams.apply(broker, 1)
    assert (await broker.jetstream.stream_info(subjects.DEAD)).config.max_age == 30 * 86400


async def test_what_nats_refuses_is_named(broker: Broker) -> None:
    with pytest.raises(Unavailable, match="MOORGATE_SCANS cannot be made"):
        await streams.apply(broker, 3)


async def test_services_wait_for_what_is_missing(
    broker: Broker, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RETRY", 0.02)
    await asyncio.wait_for(streams.wait_for_streams(broker, *NAMES), 5)
    waiting = asyncio.create_task(streams.wait_for_streams(broker, "MOORGATE_LATER"))
    looked, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not looked
    async with broker_on(nats_server) as other:
        await other.jetstream.add_stream(name="MOORGATE_LATER", subjects=["later.>"])
    await asyncio.wait_for(waiting, 5)


def test_the_buckets_are_replicated_as_asked() -> None:
    assert {config.num_replicas for config in streams.stream_configs(3)} == {3}
    assert len({msgspec.json.encode(config.as_dict()) for config in streams.stream_configs(1)}) == len(NAMES)
