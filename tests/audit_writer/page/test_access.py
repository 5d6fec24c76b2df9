"""Who may see what: asked of the API server no more often than it must be, and forgotten in time."""

import asyncio

import pytest

from deploy.dev.page.stand import EVERYWHERE, People
from services.audit_writer.page import access as access_module
from services.audit_writer.page.access import REMEMBERED, Access, Guest, Memory, TooManyAttemptsError
from services.audit_writer.page.attempts import BURST, BURST_OF_ALL, EVERY, Attempts
from services.audit_writer.page.reviews import Person
from shared.errors import Unavailable
from tests.support.virtual_time import virtually

NAMESPACES = ("edge", "shop")


def access(people: People, *namespaces: str) -> Access:
    return Access(people, lambda: namespaces or NAMESPACES)


async def let_in(door: Access, token: str, namespace: str = "") -> Guest:
    guest = await door.guest(token, "10.0.0.1", namespace)
    assert guest is not None
    return guest


async def test_rights_decide_what_is_seen() -> None:
    door = access(People({"all": {EVERYWHERE}, "one": {"shop"}, "none": set()}))
    assert (await let_in(door, "all")).visible is None
    one = await let_in(door, "one")
    assert (one.visible, one.may_see("shop"), one.may_see("edge")) == (frozenset({"shop"}), True, False)
    assert not (await let_in(door, "none")).sees_something
    assert await door.guest("stranger", "10.0.0.1") is None


@virtually
async def test_an_answer_counts_for_a_moment_and_no_longer() -> None:
    people = People({"one": {"shop"}})
    door = access(people)
    one = await let_in(door, "one")
    await let_in(door, "one")
    assert people.asked == ["one", "one ", "one edge", "one shop"]
    people.rights["one"].clear()
    assert await door.again("one", "10.0.0.1", one) == one
    await asyncio.sleep(REMEMBERED + 0.1)
    gone = await door.again("one", "10.0.0.1", one)
    assert gone is not None
    assert not gone.sees_something
    del people.rights["one"]
    await asyncio.sleep(REMEMBERED + 0.1)
    assert await door.again("one", "10.0.0.1", one) is None


async def test_the_same_question_at_once_is_asked_once() -> None:
    people = People({"one": {"shop"}})
    door = access(people)
    await asyncio.gather(*(door.guest("one", "10.0.0.1") for _ in range(50)))
    assert people.asked.count("one") == 1
    assert len(people.asked) == 4


async def test_a_waiter_that_goes_away_takes_no_answer_from_the_others() -> None:
    asked, go = 0, asyncio.Event()

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await go.wait()
        return asked

    memory: Memory[str, int] = Memory(10)
    first, second = (asyncio.create_task(memory.get("key", ask)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    assert await second == 1
    assert await memory.get("key", ask) == 1


async def test_an_error_is_not_remembered() -> None:
    class Away(People):
        is_away = True

        async def who(self, token: str) -> Person | None:
            if self.is_away:
                raise Unavailable("kubernetes", "no answer")
            return await super().who(token)

    people = Away({"all": {EVERYWHERE}})
    door = access(people)
    with pytest.raises(Unavailable):
        await door.guest("all", "10.0.0.1")
    people.is_away = False
    assert (await let_in(door, "all")).visible is None


async def test_memory_is_bounded() -> None:
    memory: Memory[int, int] = Memory(1000, limit=10)

    async def ask() -> int:
        return 1

    for number in range(50):
        await memory.get(number, ask)
    assert len(memory._answers) == 10


async def test_who_may_see_little_of_much_must_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "MAX_NAMESPACES", 3)
    people = People({"one": {"zoo"}})
    door = access(people, *"abcdef", "zoo")
    guest = await let_in(door, "one")
    assert (guest.visible, guest.has_more, guest.sees_something) == (frozenset(), True, True)
    assert (await let_in(door, "one", "zoo")).visible == frozenset({"zoo"})
    before = len(people.asked)
    await let_in(door, "one", "No Name!")
    assert len(people.asked) == before, "what is no namespace is not asked about"


@virtually
async def test_strangers_are_bounded_and_guests_are_not() -> None:
    people = People({"all": {EVERYWHERE}})
    door = access(people)
    await let_in(door, "all")
    for number in range(BURST - 1):
        assert await door.guest(f"made-up-{number}", "10.0.0.1") is None
    with pytest.raises(TooManyAttemptsError):
        await door.guest("made-up", "10.0.0.1")
    assert await door.guest("made-up", "10.0.0.2") is None, "another address"
    await asyncio.sleep(REMEMBERED + 0.1)
    assert (await let_in(door, "all")).visible is None, "its attempts are used up, but it is known"


def test_attempts_come_back_with_time_and_are_bounded_together() -> None:
    attempts = Attempts()
    assert [attempts.take("a", 100.0) for _ in range(BURST)] == [0] * BURST
    assert attempts.take("a", 100.0) == pytest.approx(EVERY)
    assert attempts.take("a", 100.0 + EVERY) == 0
    many = Attempts()
    assert [many.take(f"10.0.{number}.1", 100.0) for number in range(BURST_OF_ALL)] == [0] * BURST_OF_ALL
    assert many.take("10.1.0.1", 100.0) > 0
