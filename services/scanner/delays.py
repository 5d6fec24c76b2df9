"""How long to wait before looking again: numbers in, seconds out."""

FIRST_LOOK, LONGEST_LOOK = 1.0, 30.0
"""Seconds between looks at an analysis under way."""

GROWTH = 1.5
"""Of the delay, each time: whatever an analysis takes, its end is noticed within half as much again."""

FIRST_ERROR, LONGEST_ERROR = 15.0, 300.0
"""Seconds an error state keeps everybody from asking again: doubled each time."""

_MAX_STEPS = 20

MAX_TRIES = 5
"""Deliveries that an inner error of Anchore may take before it counts as Anchore being unavailable."""


def until_next_look(attempt: int) -> float:
    """1, 1.5, 2.3, 3.4, 5.1 … 25.6, then 30 seconds each."""
    return min(LONGEST_LOOK, FIRST_LOOK * GROWTH ** min(attempt - 1, _MAX_STEPS))


def error_life(attempt: int) -> float:
    """15, 30, 60, 120, 240, then 300 seconds each."""
    return min(LONGEST_ERROR, FIRST_ERROR * 2.0 ** min(attempt - 1, _MAX_STEPS))
