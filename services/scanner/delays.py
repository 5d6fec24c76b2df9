"""How long to wait before looking again: numbers in, seconds out."""

FIRST_LOOK, LONGEST_LOOK = 1.0, 30.0
"""Seconds between looks at an analysis under way: doubled each time."""

FIRST_ERROR, LONGEST_ERROR = 15.0, 300.0
"""Seconds an error state keeps everybody from asking again: doubled each time."""

_MAX_DOUBLINGS = 10

MAX_TRIES = 5
"""Deliveries that an inner error of Anchore may take before it counts as Anchore being unavailable."""


def until_next_look(attempt: int) -> float:
    """1, 2, 4, 8, 16, then 30 seconds each."""
    return min(LONGEST_LOOK, FIRST_LOOK * float(1 << min(attempt - 1, _MAX_DOUBLINGS)))


def error_life(attempt: int) -> float:
    """15, 30, 60, 120, 240, then 300 seconds each."""
    return min(LONGEST_ERROR, FIRST_ERROR * float(1 << min(attempt - 1, _MAX_DOUBLINGS)))
