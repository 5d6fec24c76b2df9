"""How long a scan waits before it looks again, and how long an error keeps everybody from asking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner import delays

attempts = st.integers(min_value=1, max_value=10**9)


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(1, 1), (2, 1.25), (3, 1.5625), (5, 2.44140625), (15, 22.737367544323206), (17, 30), (10**9, 30)],
)
def test_looks_grow_by_a_quarter_up_to_thirty_seconds(attempt: int, seconds: float) -> None:
    assert delays.until_next_look(attempt) == seconds


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 300), (10**9, 300)]
)
def test_errors_double_up_to_five_minutes(attempt: int, seconds: float) -> None:
    assert delays.error_life(attempt) == seconds


@given(attempts)
def test_no_delay_is_shorter_than_the_one_before(attempt: int) -> None:
    assert delays.until_next_look(attempt) <= delays.until_next_look(attempt + 1)
    assert delays.error_life(attempt) <= delays.error_life(attempt + 1)
