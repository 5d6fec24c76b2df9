"""How long to wait before looking again: numbers in, seconds out."""

import random

FIRST_LOOK, LONGEST_LOOK = 1.0, 30.0
"""Seconds between looks at an analysis under way."""

GROWTH = 1.25
"""Of the delay, each time: whatever an analysis takes, its end is noticed within a quarter as much again.

A controller's own tries double, so a verdict that misses one is waited for as long again: at half as much, an
analysis of 30 s could be noticed at 49 s, behind the try at 47 s, and its Pods came at 88 s.
"""

FIRST_ERROR, LONGEST_ERROR = 15.0, 300.0
"""Seconds an error state keeps everybody from asking again: doubled each time."""

_MAX_STEPS = 20

MAX_TRIES = 5
"""Times that an inner error of Anchore is met before it counts as Anchore being unavailable."""

LOOKS_PER_SECOND = 20.0
"""Looks at analyses under way, a tenant: while thousands are, each waits its turn, and new images do not wait for them."""

LONGEST_TURN = 300.0
"""Seconds between two looks at one analysis, however many there are."""

JITTER = 0.1
"""Part of a delay by which it varies: what was put off together comes back one by one."""


def until_next_look(attempt: int, put_off: int = 0) -> float:
    """1, 1.25, 1.6, 2, 2.4 … 28.4, then 30 seconds each; longer where `put_off` others want their look too."""
    own = min(LONGEST_LOOK, FIRST_LOOK * GROWTH ** min(attempt - 1, _MAX_STEPS))
    return max(own, min(LONGEST_TURN, put_off / LOOKS_PER_SECOND))


def jittered(seconds: float) -> float:
    """A little more or less."""
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  no secret


def error_life(attempt: int) -> float:
    """15, 30, 60, 120, 240, then 300 seconds each."""
    return min(LONGEST_ERROR, FIRST_ERROR * 2.0 ** min(attempt - 1, _MAX_STEPS))
