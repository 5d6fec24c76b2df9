"""The bundles' record is kept fresh by few calls, by however many scanners, and tells the truth about an Anchore that is away."""

import asyncio
from itertools import pairwise

import pytest

from services.scanner.bundles import ALARM_PAUSE, SHORTEST_LIFE, hash_of
from services.scanner.failures import ScanFailed, TryAgain
from shared.contracts import ErrorClass
from shared.errors import Unavailable
from tests.scanner.housekeeping import (
    FakeAnchore,
    FakeBuckets,
    Scanner,
    longest_gap,
    most_in_a_minute,
    now,
    virtual,
)

DOWN = Unavailable("anchore", "refused")
LOCKED_OUT = ScanFailed(ErrorClass.ANCHORE_UNAUTHORIZED, "401")
INNER = TryAgain("500")


def test_one_scanner_reads_every_half_minute() -> None:
    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanner = Scanner(anchore, buckets).start()
        await asyncio.sleep(600)
        await scanner.stop()
        assert all(30 <= later - earlier <= 35.1 for earlier, later in pairwise(anchore.reads))
        assert 18 <= len(anchore.reads) == len(buckets.history)
        assert buckets.record
        assert buckets.record.active_bundle_id == "b"
        assert buckets.record.bundles == {"b": hash_of({"id": "b"}), "other": hash_of({})}
        assert (buckets.record.away_since, buckets.ttl) == (None, 86400.0)

    virtual(scene())


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0, 2.0, -29.0, 31.0])
@pytest.mark.parametrize("scanners", [2, 3, 10])
def test_scanners_take_turns(scanners: int, ahead: float) -> None:
    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        anchore.seconds = 0.1
        odd = Scanner(anchore, buckets, ahead=ahead)
        others = [Scanner(anchore, buckets) for _ in range(scanners - 1)]
        for number, scanner in enumerate([odd, *others]):
            scanner.start()
            await asyncio.sleep(number % 3)
        await asyncio.sleep(900)
        await odd.stop()
        await asyncio.sleep(300)
        for scanner in others:
            await scanner.stop()
        settled = [time for time in anchore.reads if time > 60]
        assert most_in_a_minute(settled) <= 6, "two that look at the same moment"
        assert len(settled) <= (now() - 60) / 60 * 4
        assert longest_gap(anchore.reads, now()) <= 45

    virtual(scene())


@pytest.mark.parametrize("dying", [0, 1, 2])
def test_whoever_dies_another_goes_on(dying: int) -> None:
    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanners = [Scanner(anchore, buckets).start() for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(47)
            await scanners[dying].stop()
            scanners[dying] = Scanner(anchore, buckets).start()
        for scanner in scanners:
            await scanner.stop()
        assert longest_gap(anchore.reads, now()) <= 45
        assert most_in_a_minute([time for time in anchore.reads if time > 60]) <= 6

    virtual(scene())


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_one_that_reads_once_and_dies_keeps_nobody_waiting(ahead: float) -> None:
    """Its record is new to the other long after it was read, unless that one glances at it in between."""

    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        steady = Scanner(anchore, buckets).start()
        await asyncio.sleep(2)
        brief = Scanner(anchore, buckets, ahead=ahead).start()
        await asyncio.sleep(1)
        await brief.stop()
        await asyncio.sleep(120)
        await steady.stop()
        assert anchore.reads[1] == 2.0
        assert longest_gap(anchore.reads, now()) <= 45

    virtual(scene())


def test_away_and_back() -> None:
    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanner = Scanner(anchore, buckets).start()
        await asyncio.sleep(10)
        anchore.fault, began = DOWN, now()
        scanner.breaker.open("the scans found out")
        await asyncio.sleep(100)
        tries = [time for time in anchore.reads if time > 1]
        assert tries[0] - began < 0.1, "looked at once"
        pauses = [later - earlier for earlier, later in pairwise(tries)]
        for pause, expected in zip(pauses, [1, 2, 4, 8, 10, 10, 10, 10], strict=False):
            assert 0.8 * expected <= pause <= 1.2 * expected, pauses
        assert scanner.gives_up()
        assert buckets.record
        assert buckets.record.away_since
        assert len(buckets.history) == 2, "noted once"
        anchore.fault, back = None, now()
        while scanner.gives_up():
            await asyncio.sleep(0.1)
        assert now() - back <= 12.2
        assert not buckets.says_away()
        count = len(anchore.reads)
        await asyncio.sleep(29)
        assert len(anchore.reads) == count
        await scanner.stop()

    virtual(scene())


@pytest.mark.parametrize("fault", [DOWN, INNER])
def test_the_regular_look_finds_an_outage_too(fault: Exception) -> None:
    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanner = Scanner(anchore, buckets).start()
        await asyncio.sleep(1)
        anchore.fault = fault
        await asyncio.sleep(40)
        await scanner.stop()
        assert scanner.breaker.is_open
        assert buckets.record
        assert buckets.record.away_since

    virtual(scene())


def test_an_anchore_that_evaluates_nothing_is_away() -> None:
    """The bundles are listed by another of its services."""

    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanner = Scanner(anchore, buckets).start()
        await asyncio.sleep(1)
        scanner.has_checked()
        anchore.check_fault = INNER
        scanner.breaker.open("checks fail")
        await asyncio.sleep(60)
        assert scanner.gives_up()
        assert buckets.record
        assert buckets.record.away_since
        anchore.check_fault = None
        await asyncio.sleep(13)
        assert not scanner.gives_up()
        await scanner.stop()

    virtual(scene())


def test_wrong_credentials_stop_no_scans_by_the_breaker() -> None:
    """Each scan says so itself; but nobody can be asked, and that is in the record."""

    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanner = Scanner(anchore, buckets).start()
        await asyncio.sleep(1)
        anchore.fault = LOCKED_OUT
        await asyncio.sleep(120)
        await scanner.stop()
        assert not scanner.breaker.is_open
        assert most_in_a_minute([time for time in anchore.reads if time > 60]) <= 8
        assert buckets.record
        assert buckets.record.away_since

    virtual(scene())


def test_nats_away_is_not_laid_at_anchores_door() -> None:
    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanner = Scanner(anchore, buckets).start()
        await asyncio.sleep(1)
        buckets.is_away = True
        await asyncio.sleep(300)
        assert not scanner.breaker.is_open
        assert len(anchore.reads) == 1, "what cannot be written needs no reading"
        buckets.is_away = False
        await asyncio.sleep(13)
        await scanner.stop()
        assert len(anchore.reads) == 2
        assert buckets.record
        assert not buckets.says_away()

    virtual(scene())


def test_another_that_reads_keeps_the_record_from_saying_away() -> None:
    async def scene() -> None:
        good, bad, buckets = FakeAnchore(), FakeAnchore(), FakeBuckets()
        cut_off, other = Scanner(bad, buckets).start(), Scanner(good, buckets).start()
        await asyncio.sleep(70)
        bad.fault = DOWN
        await asyncio.sleep(600)
        assert cut_off.breaker.is_open
        assert not other.breaker.is_open
        away = [time for time, record in buckets.history if record.away_since]
        assert len(away) <= 1, "as long as it cannot know that the other still reads"
        assert all(any(0 < time - since < 5 for time, _ in buckets.history) for since in away)
        await other.stop()
        await asyncio.sleep(75)
        await cut_off.stop()
        assert buckets.record
        assert buckets.record.away_since

    virtual(scene())


@pytest.mark.parametrize("is_known", [True, False])
def test_alarms_cause_few_looks(is_known: bool) -> None:  # noqa: FBT001
    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanner = Scanner(anchore, buckets).start()
        await asyncio.sleep(5)
        if is_known:
            scanner.has_checked()
        for _ in range(600):
            scanner.bundles.look_soon()
            await asyncio.sleep(0.5)
        await scanner.stop()
        alarmed = anchore.reads[1:]
        assert alarmed[0] < 5.1, "the first is heard at once"
        assert all(later - earlier >= ALARM_PAUSE - 0.01 for earlier, later in pairwise(alarmed))
        assert all(later - earlier <= ALARM_PAUSE + 0.6 for earlier, later in pairwise(alarmed))
        assert (len(alarmed) - len(anchore.checks) <= 1) if is_known else not anchore.checks

    virtual(scene())


def test_in_the_calm_a_known_image_is_checked_every_five_minutes() -> None:
    async def scene() -> None:
        anchore, buckets = FakeAnchore(), FakeBuckets()
        scanner = Scanner(anchore, buckets).start()
        await asyncio.sleep(1)
        scanner.has_checked()
        await asyncio.sleep(1810)
        await scanner.stop()
        assert len(anchore.checks) == 5
        assert most_in_a_minute([*anchore.reads, *anchore.checks]) <= 6

    virtual(scene())


def test_a_record_lives_longer_than_the_looks_are_apart() -> None:
    async def scene() -> None:
        buckets = FakeBuckets()
        scanner = Scanner(FakeAnchore(), buckets, ttl=1.0, chosen="strict").start()
        await asyncio.sleep(1)
        await scanner.stop()
        assert buckets.ttl == SHORTEST_LIFE
        assert buckets.record
        assert buckets.record.active_bundle_id == "strict", "the tenant's own, whichever is active"

    virtual(scene())
