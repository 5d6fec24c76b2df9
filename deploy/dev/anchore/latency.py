"""How long answers take: a fixed time by operation, or a curve over the number of calls in hand.

On a curve calls hinder one another for as long as they are in hand together, as on a busy machine: a call's work goes on at a
rate of 1 / seconds(n) where n changes with every arrival and every end. So twelve calls at once take seconds(12) each, whoever
came first, and a constant n calls in hand end at n / seconds(n) a second.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

Curve = Callable[[int], float]
"""Seconds that a call takes while so many of its kind are in hand."""


def recorded(calls: int) -> float:
    """What checks of the recorded engine took on two cores: 0.15 s alone, 0.25 s at 4 at once, 2 s at 12 at once."""
    if calls <= _KNEE:
        return _ALONE + (_AT_KNEE - _ALONE) * (calls - 1) / (_KNEE - 1)
    return float(_AT_KNEE * (calls / _KNEE) ** _GROWTH)


_ALONE = 0.15
_KNEE = 4
_AT_KNEE = 0.25
_GROWTH = 1.89
"""(12 / 4) ** 1.89 is 8: from 0.25 s to 2 s."""

EVEN_SECONDS, EVEN_CALLS = 0.1, 12


def even(calls: int) -> float:
    """A made-up engine with a hard limit: 0.1 s each up to 12 at once, and never more than 120 a second."""
    return EVEN_SECONDS * max(1.0, calls / EVEN_CALLS)


CURVES: dict[str, Curve] = {"recorded": recorded, "even": even}


class Latency:
    """What every call waits for before it is performed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """By operation, * for all that have nothing of their own."""
        self._crowds: dict[str, Crowd] = {}

    def set_curve(self, operation: str, curve: str | None) -> None:
        """None: none any more. Raises LookupError for a curve that isn't there; calls in hand end as they began."""
        if curve is None:
            self._crowds.pop(operation, None)
        elif curve in CURVES:
            self._crowds[operation] = Crowd(CURVES[curve])
        else:
            raise LookupError(f"no such curve: {curve}; there are {sorted(CURVES)}")

    async def wait(self, operation: str) -> None:
        """A curve comes before a fixed time."""
        crowd = self._crowds.get(operation)
        if crowd is not None:
            await crowd.pass_through()
        else:
            await asyncio.sleep(self.seconds.get(operation, self.seconds.get("*", 0.0)))


class Crowd:
    """Calls that hinder one another. Each is a unit of work; all progress alike, so the first to come is the first to end."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        self._done = 0.0
        """Work that a call would have got done that had been here from the beginning."""
        self._at = 0.0
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def pass_through(self) -> None:
        """Returns when the call's work is done."""
        self._advance()
        mine = _Waiting(self._done + 1.0, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._set_timer()
        try:
            await mine.ended
        finally:
            if mine in self._waiting:  # given up
                self._advance()
                self._waiting.remove(mine)
                self._set_timer()

    def _advance(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._waiting:
            self._done += (now - self._at) / self._curve(len(self._waiting))
        self._at = now

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            left = max(self._waiting[0].ends - self._done, 0.0) * self._curve(len(self._waiting))
            self._timer = asyncio.get_running_loop().call_later(left, self._end_due)

    def _end_due(self) -> None:
        self._advance()
        while self._waiting and self._waiting[0].ends <= self._done + _EQUAL:
            ended = self._waiting.popleft().ended
            if not ended.done():
                ended.set_result(None)
        self._set_timer()


class _Waiting(NamedTuple):
    ends: float
    """In work done."""
    ended: asyncio.Future[None]


_EQUAL = 1e-6
"""Work that rounding may leave undone."""
