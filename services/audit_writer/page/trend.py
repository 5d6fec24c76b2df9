"""How often what was decided, and how often verdicts flipped, hour by hour over the week that the stream keeps.

A pure fold of events into counters. A decision that is told twice counts twice: this shows a course, it is no record.
Memory is bounded: a namespace costs 3 KiB, and beyond `MAX_NAMESPACES` the rest is counted together.
"""

from array import array
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import msgspec

from services.audit_writer.page.views import Visible
from shared.contracts import Action, Result, Utc

HOURS = 7 * 24
"""As long as `MOORGATE_EVENTS` keeps events."""

MAX_NAMESPACES = 2000
"""Namespaces that are told apart: 6 MiB."""

_HOUR = 3600
_REST = ""
"""Stands for all namespaces that found no room; only who sees everything is shown it."""


class Course(IntEnum):
    """What is counted."""

    ALLOWED = 0
    REJECTED = 1
    DEFERRED = 2
    FAILED = 3
    """Flips of what runs to `fail`."""
    PASSED = 4
    """And back."""


class Hour(msgspec.Struct, frozen=True):
    """What happened in one hour."""

    start: datetime
    counts: tuple[int, ...]
    """By `Course`."""


class Told(msgspec.Struct, frozen=True, rename="camel"):
    """The part of an event, a decision or a flip, that is counted."""

    namespace: str
    decided_at: Utc | None = None
    action: Action | None = None
    flipped_at: Utc | None = None
    result: Result | None = None


_TOLD = msgspec.json.Decoder(Told)
_ACTIONS = {
    Action.ALLOWED: Course.ALLOWED,
    Action.REJECTED: Course.REJECTED,
    Action.DEFERRED: Course.DEFERRED,
}
_RESULTS = {Result.FAIL: Course.FAILED, Result.PASS: Course.PASSED}


class Trend:
    """Counters of the last `HOURS` hours, this one included."""

    def __init__(self) -> None:
        self._newest = 0
        """The latest hour that anything was counted in, in hours since 1970."""
        self._counts: dict[str, array[int]] = {}

    def clear(self) -> None:
        """Begin anew."""
        self._newest = 0
        self._counts.clear()

    def take(self, payload: bytes, now: datetime) -> None:
        """Count one event; what is none of these, or older than a week, is passed over."""
        try:
            told = _TOLD.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if told.action and told.decided_at:
            self.add(told.namespace, _ACTIONS[told.action], told.decided_at, now)
        elif told.result and told.flipped_at:
            self.add(told.namespace, _RESULTS[told.result], told.flipped_at, now)

    def add(self, namespace: str, course: Course, at: datetime, now: datetime) -> None:
        """Count once; a clock that is ahead counts as now."""
        hour = min(_hour(at), _hour(now))
        self._turn_to(hour)
        if hour > self._newest - HOURS:
            self._of(namespace)[_slot(hour, course)] += 1

    def hours(self, visible: Visible, now: datetime, namespace: str = "") -> tuple[Hour, ...]:
        """Every hour of the week, the oldest first, of the namespaces that may be seen, or of one of them.

        May be asked in another thread than the one that counts: a number may then be one behind.
        """
        last = _hour(now)
        chosen = [
            counts for name, counts in tuple(self._counts.items()) if _is_shown(name, visible, namespace)
        ]
        return tuple(
            Hour(datetime.fromtimestamp(hour * _HOUR, UTC), self._sum(chosen, hour))
            for hour in range(last - HOURS + 1, last + 1)
        )

    def _sum(self, chosen: "list[array[int]]", hour: int) -> tuple[int, ...]:
        if not self._newest - HOURS < hour <= self._newest:
            return (0,) * len(Course)
        return tuple(sum(counts[_slot(hour, course)] for counts in chosen) for course in Course)

    def _turn_to(self, hour: int) -> None:
        """Make room for a later hour: its slots held one that is too old now."""
        if hour <= self._newest:
            return
        for passed in range(max(self._newest, hour - HOURS) + 1, hour + 1):
            for counts in self._counts.values():
                for course in Course:
                    counts[_slot(passed, course)] = 0
        self._newest = hour

    def _of(self, namespace: str) -> "array[int]":
        if namespace not in self._counts and len(self._counts) >= MAX_NAMESPACES:
            namespace = _REST
        return self._counts.setdefault(
            namespace, array("I", bytes(array("I").itemsize * HOURS * len(Course)))
        )


def by_day(hours: tuple[Hour, ...]) -> tuple[Hour, ...]:
    """The same by days of UTC; the first one may lack hours."""
    days: dict[datetime, list[int]] = {}
    for each in hours:
        sums = days.setdefault(each.start - timedelta(hours=each.start.hour), [0] * len(Course))
        for course in Course:
            sums[course] += each.counts[course]
    return tuple(Hour(day, tuple(sums)) for day, sums in days.items())


def total(hours: tuple[Hour, ...]) -> tuple[int, ...]:
    """All hours together, by `Course`."""
    return tuple(sum(each.counts[course] for each in hours) for course in Course)


def _is_shown(name: str, visible: Visible, namespace: str) -> bool:
    if namespace:
        return name == namespace and (visible is None or name in visible)
    return visible is None or name in visible


def _hour(at: datetime) -> int:
    return int(at.timestamp()) // _HOUR


def _slot(hour: int, course: Course) -> int:
    return (hour % HOURS) * len(Course) + course
