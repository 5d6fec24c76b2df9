"""Looks at analyses under way never stand in a new image's way: half of the workers at most, and rarer the more there are."""

import asyncio
from typing import Any, cast

import pytest

from services.scanner import delays
from services.scanner.looks import COUNT_INTERVAL, NO_ROOM_DELAY, Looks
from shared import streams
from shared.broker import Broker
from shared.errors import Retryable, Unavailable
from shared.streams import Backlog
from shared.subjects import Lane
from tests.scanner.housekeeping import virtual


def made(workers: int = 8) -> Looks:
    return Looks(cast(Broker, None), Lane.ADMISSION, "team-a", workers=workers)


def spread(expected: float, seconds: float) -> bool:
    return expected * (1 - delays.JITTER) <= seconds <= expected * (1 + delays.JITTER)


@pytest.mark.parametrize(("workers", "room"), [(1, 1), (2, 1), (3, 1), (8, 4), (9, 4)])
def test_half_of_the_workers_may_look(workers: int, room: int) -> None:
    those = made(workers)
    held = [those.turn(is_look=True) for _ in range(room)]
    for each in held:
        each.__enter__()
    with pytest.raises(Retryable) as full, those.turn(is_look=True):
        pass
    assert spread(NO_ROOM_DELAY, full.value.delay)
    with those.turn(is_look=False), those.turn(is_look=False):
        pass
    held[0].__exit__(None, None, None)
    for _ in range(3):
        with those.turn(is_look=True):
            pass


def test_a_look_that_fails_gives_its_room_back() -> None:
    those = made(2)
    for _ in range(5):
        with pytest.raises(ValueError, match="oops"), those.turn(is_look=True):
            raise ValueError("oops")


def test_one_alone_is_looked_at_soon_and_ever_more_rarely() -> None:
    those = made()
    for attempt, expected in ((1, 1), (2, 1.25), (3, 1.5625), (15, 22.7), (17, 30), (500, 30)):
        assert spread(expected, made().until_next(attempt))
    assert those.until_next(1) != those.until_next(1), "what was put off together comes back one by one"


@pytest.mark.parametrize(
    ("put_off", "seconds"), [(10, 1), (400, 20), (600, 30), (5000, 250), (6000, 300), (1_000_000, 300)]
)
def test_the_more_are_put_off_the_longer_each(put_off: int, seconds: float) -> None:
    async def scene() -> None:
        those = made()

        async def backlog(*_: Any) -> Backlog:
            return Backlog(waiting=7, put_off=put_off - 1)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streams, "lane_backlog", backlog)
            task = asyncio.create_task(those.run())
            await asyncio.sleep(COUNT_INTERVAL + 1)
            task.cancel()
        assert spread(seconds, those.until_next(1))

    virtual(scene())


def test_those_put_off_since_the_count_count_too() -> None:
    those = made()
    assert spread(250, [those.until_next(1) for _ in range(5000)][-1])


def test_a_count_that_fails_leaves_the_last() -> None:
    async def scene() -> None:
        those, counts = made(), 0

        async def backlog(*_: Any) -> Backlog:
            nonlocal counts
            counts += 1
            if counts > 1:
                raise Unavailable("nats", "not connected")
            return Backlog(waiting=0, put_off=4000)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streams, "lane_backlog", backlog)
            task = asyncio.create_task(those.run())
            await asyncio.sleep(10 * COUNT_INTERVAL)
            task.cancel()
        assert counts > 5
        assert spread(200, those.until_next(1))

    virtual(scene())
