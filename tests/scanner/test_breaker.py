"""The breaker opens after failures in a row of one operation, tells so once, and is asked through at growing distances."""

import pytest

from services.scanner.breaker import FIRST_PAUSE, JITTER, LONGEST_PAUSE, THRESHOLD, Breaker
from shared.errors import Unavailable


def failing(breaker: Breaker, operation: str = "check", times: int = THRESHOLD) -> None:
    for _ in range(times):
        breaker.failed(operation, "refused")


async def test_it_is_closed_at_first() -> None:
    breaker = Breaker()
    breaker.must_be_closed()
    assert not breaker.is_open
    assert await breaker.lets_through()


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    breaker = Breaker()
    failing(breaker, times=4)
    assert not breaker.is_open
    failing(breaker, times=1)
    assert breaker.is_open


def test_another_operations_answers_hide_nothing() -> None:
    breaker = Breaker()
    for _ in range(THRESHOLD):
        breaker.failed("check", "500")
        breaker.answered("image_add")
    assert breaker.is_open


def test_failures_of_different_operations_do_not_add_up() -> None:
    breaker = Breaker()
    failing(breaker, "check", 4)
    failing(breaker, "image_add", 4)
    failing(breaker, "image_get", 4)
    assert not breaker.is_open


def test_an_answer_begins_the_count_anew() -> None:
    breaker = Breaker()
    failing(breaker, times=4)
    breaker.answered("check")
    failing(breaker, times=4)
    assert not breaker.is_open


def test_who_counts_the_open_ones_is_told_of_each_change_once() -> None:
    breaker, told = Breaker(), list[str]()
    breaker.on_open(lambda: told.append("open"))
    breaker.on_close(lambda: told.append("closed"))
    breaker.close()
    failing(breaker)
    breaker.open("again")
    breaker.close()
    breaker.close()
    assert told == ["open", "closed"]


async def test_while_it_is_open_nobody_asks_and_everybody_knows_why() -> None:
    breaker = Breaker()
    failing(breaker)
    assert not await breaker.lets_through()
    with pytest.raises(
        Unavailable, match=r"anchore is away: not asked: 5 failures in a row, .*refused"
    ) as away:
        breaker.must_be_closed()
    assert away.value.neighbour == "anchore"


def test_whoever_wants_to_know_is_told_once_each_time() -> None:
    breaker = Breaker()
    told: list[str] = []
    breaker.on_open(lambda: told.append("a"))
    breaker.on_open(lambda: told.append("b"))
    failing(breaker, times=20)
    breaker.open("the housekeeping says so too")
    assert told == ["a", "b"]
    breaker.close()
    assert told == ["a", "b"]
    failing(breaker)
    assert told == ["a", "b"] * 2


def test_the_first_reason_stays() -> None:
    breaker = Breaker()
    breaker.open("first")
    breaker.open("second")
    with pytest.raises(Unavailable, match="first"):
        breaker.must_be_closed()


def test_an_answer_that_comes_late_does_not_close_it() -> None:
    breaker = Breaker()
    failing(breaker)
    breaker.answered("check")
    assert breaker.is_open


def test_closed_again_it_has_forgotten_everything() -> None:
    breaker = Breaker()
    failing(breaker)
    for _ in range(5):
        breaker.next_pause()
    breaker.close()
    breaker.must_be_closed()
    failing(breaker, times=4)
    assert not breaker.is_open
    assert breaker.next_pause() <= FIRST_PAUSE * (1 + JITTER)


def test_pauses_double_up_to_the_longest_and_none_is_like_another() -> None:
    seen: list[list[float]] = []
    for _ in range(200):
        breaker = Breaker()
        seen.append([breaker.next_pause() for _ in range(8)])
    for pauses, expected in zip(zip(*seen, strict=True), [1, 2, 4, 8, 10, 10, 10, 10], strict=True):
        assert expected * (1 - JITTER) <= min(pauses) < expected * 0.9
        assert (
            min(LONGEST_PAUSE, expected * 1.1) <= max(pauses) <= min(LONGEST_PAUSE, expected * (1 + JITTER))
        )
    assert LONGEST_PAUSE == 10


def test_an_outage_of_days_overflows_nothing() -> None:
    breaker = Breaker()
    for _ in range(5000):
        assert breaker.next_pause() <= LONGEST_PAUSE
