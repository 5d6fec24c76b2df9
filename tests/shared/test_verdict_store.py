"""Buckets and their mirrors on a real server: what is read is what was written, whatever happens between."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from deploy.dev.nats import NatsServer
from shared import buckets, contracts, ordered_consumer, streams, subjects
from shared.broker import Broker
from shared.buckets import Bucket, BucketMirror, Entry
from shared.contracts import Result
from shared.errors import Conflict
from shared.lifecycle import background
from shared.subjects import verdict_key
from shared.verdict_store import VerdictBuckets, VerdictMirror
from tests.support.builders import START, at, pending, scan_error, tenant_record, verdict
from tests.support.nats import Bell, broker_on

DAY = 86400.0


@pytest.fixture
def key() -> str:
    """A key of the test's own."""
    return verdict_key("default", "b", secrets.token_hex(8))


@pytest.fixture
def bucket(broker: Broker) -> Bucket:
    return Bucket(broker, subjects.RUNNING)


@asynccontextmanager
async def mirrored(broker: Broker, name: str = subjects.RUNNING) -> AsyncIterator[tuple[BucketMirror, Bell]]:
    """A complete mirror while the block lasts, and a bell that rings at its changes."""
    mirror, bell = BucketMirror(broker, name), Bell()
    mirror.on_change(bell.ring)
    async with background(mirror.run()):
        await asyncio.wait_for(mirror.ready.wait(), 5)
        yield mirror, bell


async def test_what_is_put_is_read_with_its_revision(bucket: Bucket, key: str) -> None:
    assert await bucket.get(key) == Entry(0, b"")
    first = await bucket.put(key, b"one", ttl=60)
    assert await bucket.get(key) == Entry(first, b"one")
    second = await bucket.put(key, b"two", ttl=60, over=first)
    assert second > first
    assert await bucket.get(key) == Entry(second, b"two")


async def test_a_write_over_another_revision_is_a_conflict(bucket: Bucket, key: str) -> None:
    first = await bucket.put(key, b"one", ttl=60, over=0)
    for wrong in (0, first - 1, first + 1):
        with pytest.raises(Conflict):
            await bucket.put(key, b"two", ttl=60, over=wrong)
    assert await bucket.get(key) == Entry(first, b"one")


async def test_of_many_writers_over_one_revision_one_wins(bucket: Bucket, key: str) -> None:
    writes = (bucket.put(key, str(n).encode(), ttl=60, over=0) for n in range(20))
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 19


async def test_an_expired_key_is_gone_everywhere_and_can_be_written_over(
    bucket: Bucket, broker: Broker, key: str
) -> None:
    async with mirrored(broker) as (mirror, bell):
        await bucket.put(key, b"one", ttl=0.1)
        await bell.until(lambda: mirror.get(key))
        await bell.until(lambda: mirror.get(key) is None)
        marker = await bucket.get(key)
        assert (marker.value, marker.revision > 0) == (b"", True)
        with pytest.raises(Conflict):
            await bucket.put(key, b"two", ttl=60, over=0)
        revision = await bucket.put(key, b"two", ttl=60, over=marker.revision)
        await bell.until(lambda: mirror.get(key) == Entry(revision, b"two"))


async def test_a_deleted_key_is_gone_and_can_be_written_over(
    bucket: Bucket, broker: Broker, key: str
) -> None:
    async with mirrored(broker) as (mirror, bell):
        await bucket.put(key, b"one", ttl=60)
        await bell.until(lambda: mirror.get(key))
        await bucket.delete(key)
        await bell.until(lambda: mirror.get(key) is None)
        marker = await bucket.get(key)
        assert marker.value == b""
        await bucket.put(key, b"two", ttl=60, over=marker.revision)
    async with mirrored(broker) as (mirror, _):
        assert mirror.get(key)


async def test_a_mirror_loads_what_is_there_and_follows(bucket: Bucket, broker: Broker, key: str) -> None:
    for number in range(300):
        await bucket.put(f"{key}-{number}", str(number).encode(), ttl=DAY)
    async with mirrored(broker) as (mirror, bell):
        assert all(mirror.get(f"{key}-{n}") for n in range(300)), "ready before it was complete"
        before = len(mirror)
        revision = await bucket.put(key, b"new", ttl=DAY)
        await bell.until(lambda: mirror.get(key))
        assert mirror.get(key) == Entry(revision, b"new")
        assert len(mirror) == before + 1


async def test_an_empty_bucket_is_complete_at_once(broker: Broker) -> None:
    async with mirrored(broker, subjects.TENANTS) as (mirror, _):
        assert len(mirror) == 0


async def test_a_mirror_survives_a_killed_server(nats_server: NatsServer, broker: Broker, key: str) -> None:
    bucket = Bucket(broker, subjects.RUNNING)
    await bucket.put(key, b"before", ttl=DAY)
    await bucket.put(f"{key}-gone", b"x", ttl=DAY)
    async with mirrored(broker) as (mirror, bell):
        nats_server.process.kill()
        assert mirror.get(key), "goes on answering while the server is away"
        await nats_server.process.start()
        async with broker_on(nats_server) as other:
            elsewhere = Bucket(other, subjects.RUNNING)
            revision = await elsewhere.put(key, b"after", ttl=DAY)
            await elsewhere.delete(f"{key}-gone")
            await bell.until(lambda: mirror.get(key) == Entry(revision, b"after"), within=6)
            await bell.until(lambda: mirror.get(f"{key}-gone") is None)
            later = await elsewhere.put(key, b"later", ttl=DAY)
            await bell.until(lambda: mirror.get(key) == Entry(later, b"later"))


async def test_a_mirror_notices_that_its_bucket_was_made_anew(
    broker: Broker, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered_consumer, "HEARTBEAT", 0.2)
    monkeypatch.setattr(ordered_consumer, "SILENCE", 0.5)
    monkeypatch.setattr(buckets, "RESTART_WAIT", 0.1)
    bucket = Bucket(broker, subjects.RUNNING)
    await bucket.put(f"{key}-old", b"old", ttl=DAY)
    async with mirrored(broker) as (mirror, bell):
        assert mirror.get(f"{key}-old")
        await broker.jetstream.delete_stream(streams.bucket_stream(subjects.RUNNING))
        await streams.apply(broker, 1)
        await bucket.put(key, b"new", ttl=DAY)
        await bell.until(lambda: mirror.get(key))
        assert mirror.get(f"{key}-old") is None


async def test_a_lost_message_is_noticed_and_everything_read_anew(
    broker: Broker, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "RESTART_WAIT", 0.05)
    bucket = Bucket(broker, subjects.RUNNING)
    async with mirrored(broker) as (mirror, bell):
        mirror._consumer._expected += 1  # as if one had not come
        revision = await bucket.put(key, b"x", ttl=DAY)
        await bell.until(lambda: mirror.get(key) == Entry(revision, b"x"))


async def test_a_mirror_leaves_no_consumers_behind(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(buckets, "RESTART_WAIT", 0.01)
    stream = streams.bucket_stream(subjects.SCAN_STATES)
    before = (await broker.jetstream.stream_info(stream)).state.consumer_count
    bucket = Bucket(broker, subjects.SCAN_STATES)
    async with mirrored(broker, subjects.SCAN_STATES) as (mirror, bell):
        for number in range(5):
            mirror._consumer._doubt.set()
            revision = await bucket.put(key, str(number).encode(), ttl=60)
            await bell.until(lambda: mirror.get(key) == Entry(revision, str(number).encode()))  # noqa: B023
        bell_rung = (await broker.jetstream.stream_info(stream)).state.consumer_count
        assert bell_rung <= before + 2


@asynccontextmanager
async def verdicts(broker: Broker) -> AsyncIterator[tuple[VerdictMirror, VerdictBuckets, Bell]]:
    """A complete verdict mirror, the scanner's side, and a bell."""
    mirror, bell = VerdictMirror(broker), Bell()
    for each in mirror.mirrors:
        each.on_change(bell.ring)
    async with background(*(each.run() for each in mirror.mirrors)):
        for each in mirror.mirrors:
            await asyncio.wait_for(each.ready.wait(), 5)
        yield mirror, VerdictBuckets(broker), bell


async def test_verdicts_states_and_tenants_come_back_as_they_were(broker: Broker, key: str) -> None:
    async with verdicts(broker) as (mirror, store, bell):
        assert (mirror.verdict(key), mirror.state(key), mirror.tenant("team-x")) == (None, None, None)
        assert await store.verdict(key) == (None, 0)
        revision = await store.put_verdict(key, verdict(Result.FAIL), START, 0)
        await store.put_state(key, pending(), START)
        await store.put_tenant(tenant_record("team-x"), DAY)
        await bell.until(lambda: mirror.verdict(key) and mirror.state(key) and mirror.tenant("team-x"))
        assert mirror.verdict(key) == (verdict(Result.FAIL), revision)
        assert mirror.state(key) == pending()
        assert (await store.state(key))[0] == pending()
        assert mirror.tenant("team-x") == tenant_record("team-x") == await store.tenant("team-x")
        assert await store.verdict(key) == (verdict(Result.FAIL), revision)
        await store.put_state(key, scan_error(), START)
        await bell.until(lambda: mirror.state(key) == scan_error())
        await store.clear_state(key)
        await bell.until(lambda: mirror.state(key) is None)


async def test_an_answer_that_took_too_long_is_dropped(broker: Broker, key: str) -> None:
    store = VerdictBuckets(broker)
    _, seen = await store.verdict(key)
    await store.put_verdict(key, verdict(Result.FAIL), START, seen)
    with pytest.raises(Conflict):
        await store.put_verdict(key, verdict(), START, seen)
    assert (await store.verdict(key))[0] == verdict(Result.FAIL)


async def test_a_state_can_be_written_over_a_revision_too(broker: Broker, key: str) -> None:
    store = VerdictBuckets(broker)
    assert await store.state(key) == (None, 0)
    await store.put_state(key, pending(), START, 0)
    _, revision = await store.state(key)
    with pytest.raises(Conflict):
        await store.put_state(key, scan_error(), START, revision - 1)
    await store.put_state(key, scan_error(), START, revision)
    assert (await store.state(key))[0] == scan_error()


async def test_values_live_as_long_as_they_say(broker: Broker, key: str) -> None:
    store = VerdictBuckets(broker)
    await store.put_verdict(key, verdict(), START, 0)
    await store.put_state(key, pending(next_look=at(30)), START)

    async def ttl(bucket: str) -> str:
        message = await broker.jetstream.get_last_msg(streams.bucket_stream(bucket), f"$KV.{bucket}.{key}")
        return str((message.headers or {})["Nats-TTL"])

    assert await ttl(subjects.VERDICTS) == "86400s"
    assert await ttl(subjects.SCAN_STATES) == "60s", "twice the next look"
    await store.put_state(key, scan_error(), START)
    assert await ttl(subjects.SCAN_STATES) == "615s"
    await store.put_state(key, pending(next_look=at(-60)), START)
    assert await ttl(subjects.SCAN_STATES) == "1s", "a look that is past lives for the least there is"
    await store.put_verdict(
        key, verdict(known_until=START - timedelta(days=1)), START, (await store.verdict(key))[1]
    )
    assert await ttl(subjects.VERDICTS) == "1s"


@pytest.mark.parametrize("value", [b"{", b"null", b'{"type":"moorgate.v9.verdict"}', b"\xff\xfe", b"[[["])
async def test_a_value_that_cannot_be_read_counts_as_absent(broker: Broker, key: str, value: bytes) -> None:
    async with verdicts(broker) as (mirror, store, bell):
        for name in (subjects.VERDICTS, subjects.SCAN_STATES, subjects.TENANTS):
            await Bucket(broker, name).put(key, value, ttl=60)
        await bell.until(lambda: all(each.get(key) for each in mirror.mirrors))
        assert (mirror.verdict(key), mirror.state(key), mirror.tenant(key)) == (None, None, None)
        found, revision = await store.verdict(key)
        assert (found, revision > 0) == (None, True)
        assert await store.put_verdict(key, verdict(), START, revision) > revision


async def test_whoever_waits_for_a_key_is_woken_by_it_alone(broker: Broker, key: str) -> None:
    other = f"{key}-other"
    async with verdicts(broker) as (mirror, store, bell):
        with mirror.watching([key, key]) as mine, mirror.watching([other]) as others:
            await store.put_verdict(key, verdict(), START, 0)
            await asyncio.wait_for(mine.wait(), 5)
            assert not others.is_set()
            mine.clear()
            await store.put_state(other, pending(), START)
            await asyncio.wait_for(others.wait(), 5)
            assert not mine.is_set()
            others.clear()
            mirror.verdicts._changed(None)
            assert mine.is_set()
            assert others.is_set()
        assert not mirror._waiting, "nobody waits any more"
        await store.clear_state(other)
        await bell.until(lambda: mirror.state(other) is None)


def test_a_mirror_without_a_server_is_empty_and_not_ready(broker: Broker) -> None:
    mirror = VerdictMirror(broker)
    assert mirror.verdict("a.b.c") is None
    assert not any(each.ready.is_set() for each in mirror.mirrors)
    assert contracts.VERDICT is not None
