"""Turns for calls: an admission never waits for re-scans, nobody is forgotten, and whoever gives up leaves no slot behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scanner.limits import CallLimit, Slots
from shared.subjects import Lane

ADMISSION, RESCAN = Lane.ADMISSION, Lane.RESCAN


class Callers:
    """Tasks that want a turn, have it until they are let go, or give up."""

    def __init__(self, allowed: int) -> None:
        self.limit = CallLimit(100, allowed)
        self.inside: list[int] = []
        """In the order in which they had their turn."""
        self.excess: list[str] = []
        self._slots = Slots(self.limit)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._lanes: dict[int, Lane] = {}
        self._let_go: dict[int, asyncio.Event] = {}

    async def enter(self, lane: Lane) -> int:
        number = len(self._lanes)
        self._lanes[number], self._let_go[number] = lane, asyncio.Event()
        self._tasks[number] = asyncio.create_task(self._call(number))
        await settled()
        return number

    async def leave(self, number: int) -> None:
        self._let_go[number].set()
        await settled()

    async def cancel(self, *numbers: int) -> None:
        for number in numbers:
            self._tasks[number].cancel()
        await settled()

    def waiting(self, lane: Lane | None = None) -> list[int]:
        return [
            number
            for number, task in self._tasks.items()
            if not task.done() and number not in self.inside and lane in (None, self._lanes[number])
        ]

    def count(self, *lanes: Lane) -> int:
        """Calls under way."""
        return sum(self._lanes[number] in lanes for number in self.inside)

    async def gone(self) -> None:
        await self.cancel(*self._tasks)

    async def _call(self, number: int) -> None:
        async with self._slots.slot(self._lanes[number]):
            self.inside.append(number)
            seen = (ADMISSION,) if self._lanes[number] is ADMISSION else (ADMISSION, RESCAN)
            if self.count(*seen) > self.limit.value:
                self.excess.append(f"{self.count(*seen)} of {self.limit.value}")
            try:
                await self._let_go[number].wait()
            finally:
                self.inside.remove(number)


async def settled() -> None:
    """Everybody who can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def callers(allowed: int) -> AsyncIterator[Callers]:
    made = Callers(allowed)
    try:
        yield made
    finally:
        await made.gone()


async def test_whoever_came_first_is_first() -> None:
    async with callers(1) as those:
        numbers = [await those.enter(RESCAN) for _ in range(5)]
        for number in numbers:
            assert those.inside == [number]
            await those.leave(number)
        assert those.inside == []


async def test_an_admission_never_waits_for_rescans() -> None:
    async with callers(2) as those:
        for _ in range(5):
            await those.enter(RESCAN)
        first, second, third = [await those.enter(ADMISSION) for _ in range(3)]
        assert those.count(RESCAN) == those.count(ADMISSION) == 2
        assert those.waiting(ADMISSION) == [third]
        await those.leave(first)
        assert (third in those.inside, those.waiting(ADMISSION)) == (True, [])
        await those.leave(0)
        assert those.count(RESCAN) == 1, "a re-scan waits for all"
        await those.leave(1)
        await those.leave(second)
        assert (those.count(ADMISSION), those.count(RESCAN)) == (1, 1)


@pytest.mark.parametrize("turns_of_the_loop", range(5))
async def test_one_that_gives_up_as_it_gets_its_turn_hands_it_on(turns_of_the_loop: int) -> None:
    async with callers(1) as those:
        first, second, third = [await those.enter(ADMISSION) for _ in range(3)]
        those._let_go[first].set()
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        await those.cancel(second)
        assert those.inside == [third]


async def test_a_smaller_bound_takes_no_turn_away_and_a_larger_one_wakes_many() -> None:
    async with callers(4) as those:
        numbers = [await those.enter(ADMISSION) for _ in range(12)]
        those.limit.value = 1
        for number in numbers[:3]:
            await those.leave(number)
        assert those.inside == numbers[3:4]
        those.limit.value = 5
        await those.leave(numbers[3])
        assert those.inside == numbers[4:9]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(Lane)),
        st.tuples(st.just("leave"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("race"), st.integers(0, 30)),
        st.tuples(st.just("bound"), st.integers(1, 6)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), steps)
def test_nobody_is_too_much_and_nobody_is_forgotten(
    allowed: int, sequence: list[tuple[str, Lane | int]]
) -> None:
    asyncio.run(_play(allowed, sequence))


async def _play(allowed: int, sequence: list[tuple[str, Lane | int]]) -> None:
    async with callers(allowed) as those:
        for step, what in sequence:
            if isinstance(what, Lane):
                await those.enter(what)
            elif step == "bound":
                those.limit.value = what
                for number in those.inside[:1]:  # a bound changes when a call ends
                    await those.leave(number)
            elif step == "leave" and those.inside:
                await those.leave(those.inside[what % len(those.inside)])
            elif step == "cancel" and (waiting := those.waiting()):
                await those.cancel(waiting[what % len(waiting)])
            elif step == "race" and those.inside and (waiting := those.waiting()):
                those._let_go[those.inside[0]].set()
                for _ in range(what % 4):
                    await asyncio.sleep(0)
                await those.cancel(waiting[0])
            _must_be_fair(those)
        await those.gone()
        assert set(those._slots._under_way.values()) == {0}, "no slot is left behind"


def _must_be_fair(those: Callers) -> None:
    assert those.excess == []
    assert those.count(ADMISSION) == those._slots._under_way[ADMISSION]
    assert those.count(RESCAN) == those._slots._under_way[RESCAN]
    if those.waiting(ADMISSION):
        assert those.count(ADMISSION) >= those.limit.value, "room, and somebody waits"
    if those.waiting(RESCAN):
        assert those.count(ADMISSION, RESCAN) >= those.limit.value, "room, and somebody waits"
