"""When re-scans are asked for: evenly, once an interval and key, at once what is missing, and at a bounded rate."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from services.audit_writer.judgements import Judgement, Judgements, RunningKey
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.outlook import Outlook
from services.audit_writer.rescans import ADMISSIONS_TURN, ASK_AGAIN, AWAY, RATE, Rescans
from services.audit_writer.schedule import last_moment, look
from shared.broker import Broker
from shared.buckets import Entry
from shared.contracts import Result, ScanError, ScanPending, ScanRequest, ScanState, TenantRecord
from shared.errors import Unavailable
from shared.verdicts import StoredVerdict
from tests.audit_writer.seen import at, judgement, tenant, verdict
from tests.support.builders import pending, scan_error
from tests.support.virtual_time import virtually

INTERVAL = 4 * 3600.0


class _Entries:
    """What `BucketMirror` is to the one who asks."""

    def __init__(self, stored: dict[str, StoredVerdict]) -> None:
        self._stored = stored
        self.calls: list[Callable[[str | None], None]] = []

    def get(self, key: str) -> Entry | None:
        return Entry(self._stored[key].revision, b"v") if key in self._stored else None

    def on_change(self, call: Callable[[str | None], None]) -> None:
        self.calls.append(call)


class World:
    """A cluster, NATS and scanners that answer at once, in virtual time."""

    def __init__(self, images: int = 0, *, pods: Callable[[int], int] = lambda _: 1) -> None:
        self.stored: dict[str, StoredVerdict] = {}
        self.states: dict[str, ScanState] = {}
        self.record: TenantRecord | None = tenant()
        self.asked: list[tuple[float, ScanRequest]] = []
        self.answers = True
        self.is_away = False
        self.verdicts = _Entries(self.stored)
        self.source = "tests"
        self._calls: list[Callable[[], None]] = []
        self.judgements = Judgements({}, {})
        self.run_images([judgement(f"app:{number}") for number in range(images)], pods)

    mirror = property(lambda self: self)

    def run_images(self, judged: list[Judgement], pods: Callable[[int], int] = lambda _: 1) -> None:
        keys = {
            each.key: RunningKey(judgement=each, pods=pods(number), workloads=())
            for number, each in enumerate(judged)
        }
        self.judgements = Judgements({}, keys)
        for call in self._calls:
            call()

    def now(self) -> datetime:
        return at(asyncio.get_running_loop().time())

    def know_all(self, since: float = 0, result: Result = Result.PASS) -> None:
        for key in self.judgements.keys:
            self.stored[key] = verdict(result, after=since, known_until=at(1e9))

    def rescans(self, interval: float = INTERVAL) -> Rescans:
        metrics = AuditWriterMetrics(CollectorRegistry())
        return Rescans(cast(Outlook, self), cast(Broker, self), interval, metrics, self.now)

    # What Outlook, VerdictMirror and Broker are to the one who asks.

    def on_change(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def verdict(self, key: str) -> StoredVerdict | None:
        return self.stored.get(key)

    def state(self, key: str) -> ScanState | None:
        return self.states.get(key)

    def tenant(self, _: str) -> TenantRecord | None:
        return self.record

    async def publish_unless_waiting(self, subject: str, message: ScanRequest) -> bool:
        if self.is_away:
            raise Unavailable("nats", "not connected")
        assert ".scan.rescan." in subject
        self.asked.append((asyncio.get_running_loop().time(), message))
        if self.answers:
            since = asyncio.get_running_loop().time()
            self.stored[message.key] = verdict(Result.PASS, after=since, known_until=at(1e9))
        return True

    def forget(self, key: str) -> None:
        del self.stored[key]
        for call in self.verdicts.calls:
            call(key)


async def ran_for(seconds: float, *some: Rescans) -> None:
    tasks = [asyncio.create_task(each.run()) for each in some]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


@virtually
async def test_every_key_once_an_interval_and_evenly() -> None:
    world = World(2000)
    world.know_all(since=asyncio.get_running_loop().time())
    await ran_for(INTERVAL, world.rescans())
    counted = Counter(request.key for _, request in world.asked)
    assert set(counted.values()) == {1}
    assert len(counted) == 2000
    tenths = Counter(int((when - 1000) // (INTERVAL / 10)) for when, _ in world.asked)
    assert all(150 < tenths[each] < 250 for each in range(10)), tenths


@virtually
async def test_the_next_leader_goes_on_without_a_burst() -> None:
    world = World(1000)
    world.know_all(since=asyncio.get_running_loop().time())
    for _ in range(8):  # a new leader every half hour
        await ran_for(INTERVAL / 8, world.rescans())
    counted = Counter(request.key for _, request in world.asked)
    assert set(counted.values()) == {1}
    assert len(counted) == 1000
    minutes = Counter(int(when // 60) for when, _ in world.asked)
    assert max(minutes.values()) < 20


@virtually
async def test_what_is_missing_is_asked_for_at_once_the_most_widely_running_first() -> None:
    world = World(300, pods=lambda number: number)
    await ran_for(300 / RATE + 1, world.rescans())
    images = [request.image for _, request in world.asked]
    assert images == [f"docker.io/library/app:{number}" for number in reversed(range(300))]
    assert {request.seen for _, request in world.asked} == {0}
    first, last = world.asked[0][0], world.asked[-1][0]
    assert last - first >= 299 / RATE - 0.1


@virtually
async def test_a_bucket_that_is_lost_is_filled_again() -> None:
    world = World(50)
    world.know_all(since=asyncio.get_running_loop().time())
    rescans = world.rescans()
    task = asyncio.create_task(rescans.run())
    await asyncio.sleep(1)
    world.asked.clear()
    world.stored.clear()
    for call in world.verdicts.calls:
        call(None)
    await asyncio.sleep(50 / RATE + 1)
    assert len({request.key for _, request in world.asked}) == 50
    task.cancel()


@virtually
async def test_a_verdict_that_lapsed_is_asked_for_at_once() -> None:
    world = World(1)
    [key] = world.judgements.keys
    world.know_all(since=asyncio.get_running_loop().time())
    task = asyncio.create_task(world.rescans().run())
    await asyncio.sleep(1)
    world.forget(key)
    await asyncio.sleep(1)
    assert [request.key for _, request in world.asked] == [key]
    task.cancel()


@virtually
async def test_an_edited_bundle_is_asked_for_with_the_revision_that_is_known() -> None:
    world = World(1)
    world.know_all(since=asyncio.get_running_loop().time())
    world.answers = False
    task = asyncio.create_task(world.rescans().run())
    await asyncio.sleep(1)
    assert world.asked == []
    world.run_images([judgement("app:0", bundle_hash="edited")])
    await asyncio.sleep(1)
    assert [request.seen for _, request in world.asked] == [7]
    task.cancel()


@virtually
async def test_nobody_asks_while_a_scan_state_lives() -> None:
    world = World(2)
    world.answers = False
    failed, waits = world.judgements.keys
    now = world.now()
    world.states[failed] = scan_error(since=now, until=now + timedelta(seconds=100))
    world.states[waits] = pending(since=now, next_look=now + timedelta(seconds=50))
    await ran_for(79, world.rescans())
    assert world.asked == []
    await ran_for(30, world.rescans())
    assert [request.key for _, request in world.asked] == [waits, failed]


@virtually
async def test_what_nothing_came_of_is_asked_for_again_much_later() -> None:
    world = World(1)
    world.answers = False
    await ran_for(3 * ASK_AGAIN.total_seconds() + 1, world.rescans())
    assert len(world.asked) == 4


@virtually
async def test_while_nats_is_away_nothing_is_lost() -> None:
    world = World(30)
    world.is_away = True
    task = asyncio.create_task(world.rescans().run())
    await asyncio.sleep(60)
    world.is_away = False
    await asyncio.sleep(30)
    assert len(world.asked) == 30
    task.cancel()


@pytest.mark.parametrize("record", [None, tenant(away_since=at(0))])
def test_while_anchore_is_away_nobody_asks(record: TenantRecord | None) -> None:
    @virtually
    async def scene() -> None:
        world = World(1)
        world.record = record
        task = asyncio.create_task(world.rescans().run())
        await asyncio.sleep(600)
        assert world.asked == []
        world.record = tenant()
        await asyncio.sleep(AWAY.total_seconds() + 1)
        assert len(world.asked) == 1
        task.cancel()

    scene()


@virtually
async def test_what_no_longer_runs_is_not_scanned_again() -> None:
    world = World(5)
    world.know_all(since=asyncio.get_running_loop().time())
    task = asyncio.create_task(world.rescans(100.0).run())
    await asyncio.sleep(1)
    world.run_images([])
    world.asked.clear()
    await asyncio.sleep(500)
    assert world.asked == []
    task.cancel()


@virtually
async def test_what_a_record_waits_for_is_asked_for_until_it_is_there() -> None:
    world = World()
    rescans = world.rescans(100.0)
    awaited = judgement("gone:1")
    rescans.await_verdicts({awaited.key: awaited})
    await ran_for(1000, rescans)
    assert [request.image for _, request in world.asked] == [awaited.reference]


@virtually
async def test_what_was_decided_just_now_is_left_to_the_gateways_own_request_first() -> None:
    world = World()
    rescans = world.rescans(100.0)
    task = asyncio.create_task(rescans.run())
    await asyncio.sleep(1)
    awaited = judgement("new:1")
    rescans.await_also({awaited.key: awaited})
    await asyncio.sleep(ADMISSIONS_TURN.total_seconds() - 1)
    assert world.asked == []
    await asyncio.sleep(2)
    assert [request.image for _, request in world.asked] == [awaited.reference]
    rescans.await_also({awaited.key: awaited})  # another Audit of it: asked for once
    await asyncio.sleep(60)
    assert len(world.asked) == 1
    task.cancel()


@virtually
async def test_the_shortest_interval_is_kept() -> None:
    world = World(3)
    await ran_for(10, world.rescans(1.0))
    counted = Counter(request.key for _, request in world.asked)
    assert all(9 <= each <= 12 for each in counted.values()), counted


@pytest.mark.parametrize("state", [None, scan_error(), pending()])
def test_a_lapsed_state_hinders_nobody(state: ScanError | ScanPending | None) -> None:
    found = look(judgement(), None, state, is_running=True, interval=INTERVAL, now=at(3600))
    assert found.is_wanted


def test_a_key_has_one_moment_an_interval() -> None:
    moments = {last_moment("a-key", INTERVAL, at(float(second))) for second in range(0, int(INTERVAL), 60)}
    assert len(moments) <= 2
    for moment in moments:
        assert last_moment("a-key", INTERVAL, moment) == moment
        assert last_moment("a-key", INTERVAL, moment + timedelta(seconds=INTERVAL - 1)) == moment
