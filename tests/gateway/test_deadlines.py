"""How long an answer may be waited for."""

import asyncio

import pytest

from services.gateway.deadlines import CONTROLLER_WAIT, Deadline, deadline


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        ("10s", 3.0),
        ("2s", 1.5),
        ("1s", 0.5),
        ("500ms", 0.0),
        ("100ms", 0.0),
        (None, 3.0),
        ("", 3.0),
        ("0", 0.0),
        ("1m0s", 3.0),
        ("soon", 3.0),
        ("-5s", 3.0),
        ("10", 3.0),
        ("9" * 400 + "s", 3.0),
        ("\u0661s", 3.0),
    ],
)
def test_the_wait_ends_before_the_api_server_gives_up(timeout: str | None, expected: float) -> None:
    found = deadline(100.0, timeout, max_wait=3.0, margin=0.5)
    assert found.at == pytest.approx(100.0 + expected)


def test_what_cannot_be_read_counts_as_the_default_of_ten_seconds() -> None:
    assert deadline(0.0, "soon", max_wait=60.0, margin=0.5).at == 9.5


def test_capped_takes_the_earlier_end() -> None:
    assert Deadline(103.0).capped(100.0, 0.5) == Deadline(100.5)
    assert Deadline(100.2).capped(100.0, 0.5) == Deadline(100.2)


def test_a_controller_is_kept_for_half_a_second() -> None:
    assert Deadline(103.0).capped(100.0, CONTROLLER_WAIT) == Deadline(100.5)


async def test_what_remains_is_never_negative() -> None:
    now = asyncio.get_running_loop().time()
    assert Deadline(now - 5).remaining == 0.0
    assert 0.0 < Deadline(now + 5).remaining <= 5.0
