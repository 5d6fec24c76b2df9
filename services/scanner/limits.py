"""How many calls of one kind may be under way at once: found by trying, for no server says what it bears.

A check is slow, and many at once are slower than in a row: an Engine that takes 150 ms alone takes 2 s for each of
twelve. So the bound climbs the hill of throughput. A window of calls is timed at the present bound, then one at a
neighbour's; what is faster stays, and of two that are as fast the smaller. A call that takes far longer than the
fastest windows did, and a server that says it is busy, halve the bound at once. Only calls that stand in a queue
for their slot tell anything about the bound: with little to do it stays.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.subjects import Lane

START = 4
"""Calls at once before anything is known. Eight are soon too many where scanners share one Anchore: each gives up calls that
the others then take, so three of them gave 82 verdicts a second instead of 103."""

STEP = 1.25
"""From a bound to its neighbour."""

WINDOW, SETTLED_WINDOW = 1.0, 2.0
"""Seconds a window lasts at least: longer once the bound seems found, for a finer comparison."""

SETTLED = 4
"""Patience from which the bound seems found."""

MIN_CALLS = 6
"""Calls a window has at least, rounded up to whole rounds: a round cut off looks slow."""

BETTER, AS_GOOD = 1.05, 0.97
"""How a larger bound must compare to be taken, and a smaller one: timings are noisy, and smaller is kinder."""

MAX_PATIENCE = 16
"""Windows between two trials at most."""

SLOW, SLOW_FACTOR, SLOW_CALLS = 2.0, 3.0, 3
"""Seconds, and times the fastest window's mean, from which a call is slow; so many in a window halve the bound."""


@dataclass
class _Window:
    """What was seen since the bound was set."""

    since: float
    calls: int = 0
    full: int = 0
    """Calls that took the last slot."""
    most: int = 0
    """Calls under way at once."""
    done: int = 0
    seconds: float = 0.0
    slow: int = 0


class CallLimit:
    """The bound: told of each call's begin and end, in seconds of any one clock."""

    def __init__(self, maximum: int, start: int = START) -> None:
        """Between 1 and `maximum`."""
        self.value = min(start, maximum)
        """Calls that may be under way now."""
        self._maximum = maximum
        self._start = min(start, maximum)
        self._base = self.value
        self._base_rate: float | None = None
        self._fastest: float | None = None
        self._goes_up = True
        self._patience, self._hold = 1, 0
        self._window: _Window | None = None

    def begun(self, now: float, under_way: int) -> None:
        """A call begins; `under_way` counts it."""
        if self._window is None:  # calls begun under another bound are not part of this window
            self._window = _Window(now)
        window = self._window
        window.calls += 1
        window.full += under_way >= self.value
        window.most = max(window.most, under_way)

    def ended(self, begun: float, now: float) -> None:
        """A call that was begun at `begun` has been answered."""
        window = self._window
        if window is None or begun < window.since:
            return
        window.done += 1
        window.seconds += now - begun
        window.slow += now - begun > max(SLOW, SLOW_FACTOR * (self._fastest or 0.0))
        if window.slow >= SLOW_CALLS and self.value > 1:
            self._halve()
        elif self._is_whole(window, now):
            self._decide(window, window.done / (now - window.since))
            self._window = None

    def refused(self, begun: float) -> None:
        """A call that was begun at `begun` got no answer, or the one that the server is busy."""
        if (
            self._window and begun >= self._window.since
        ):  # one overload halves once, however many calls it hits
            self._halve()

    def _is_whole(self, window: _Window, now: float) -> bool:
        rounds = math.ceil(MIN_CALLS / self.value)
        least = WINDOW if self._patience < SETTLED else SETTLED_WINDOW
        return window.done >= rounds * self.value and now - window.since >= least

    def _decide(self, window: _Window, rate: float) -> None:
        """`rate`: calls a second."""
        if window.full * 2 < window.calls:  # nobody waited: the rate is that of the demand
            self._base = self.value = max(min(self._start, self._base), min(self._base, window.most))
            self._base_rate = None
            return
        mean = window.seconds / window.done
        self._fastest = mean if self.value == 1 or not self._fastest else min(self._fastest, mean)
        if self.value == self._base:
            self._base_rate = rate if self._base_rate is None else (rate + self._base_rate) / 2
        else:
            self._end_trial(rate)
        self._hold -= 1
        self.value = self._base if self._hold > 0 else self._neighbour()

    def _end_trial(self, rate: float) -> None:
        is_up = self.value > self._base
        base_rate = self._base_rate or 0.0
        if rate > base_rate * (BETTER if is_up else AS_GOOD):
            self._base, self._base_rate = self.value, rate
            self._goes_up, self._patience, self._hold = is_up, 1, 0
        else:
            self._goes_up = not is_up
            self._patience = min(MAX_PATIENCE, 2 * self._patience)
            self._hold = self._patience + 1

    def _neighbour(self) -> int:
        up = min(self._maximum, math.ceil(self._base * STEP))
        down = max(1, math.floor(self._base / STEP))
        if (up if self._goes_up else down) == self._base:
            self._goes_up = not self._goes_up
        return up if self._goes_up else down

    def _halve(self) -> None:
        self._base = self.value = max(1, min(self._base, self.value) // 2)
        self._base_rate, self._goes_up = None, False
        self._patience, self._hold = 1, 0
        self._window = None


class Slots:
    """Calls wait here for their turn. A re-scan waits for all, an admission for other admissions alone."""

    def __init__(self, limit: CallLimit) -> None:
        self._limit = limit
        self._under_way = dict.fromkeys(Lane, 0)
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in Lane}

    @asynccontextmanager
    async def slot(self, lane: Lane) -> AsyncIterator["Turn"]:
        """A turn, once there is room."""
        await self._enter(lane)
        clock = asyncio.get_running_loop().time
        turn = Turn(self._limit, clock())
        self._limit.begun(turn.begun, sum(self._under_way.values()))
        try:
            yield turn
        finally:
            if turn.is_answered:
                self._limit.ended(turn.begun, clock())
            self._leave(lane)

    async def _enter(self, lane: Lane) -> None:
        if self._has_room(lane) and not self._waiting[lane]:
            self._under_way[lane] += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # the turn was given and nobody takes it
                self._leave(lane)
            raise

    def _leave(self, lane: Lane) -> None:
        self._under_way[lane] -= 1
        for each in (Lane.ADMISSION, Lane.RESCAN):
            queue = self._waiting[each]
            while queue and self._has_room(each):
                place = queue.popleft()
                if not place.done():
                    self._under_way[each] += 1
                    place.set_result(None)

    def _has_room(self, lane: Lane) -> bool:
        counted = self._under_way if lane is Lane.RESCAN else {lane: self._under_way[lane]}
        return sum(counted.values()) < self._limit.value


class Turn:
    """One call's turn."""

    def __init__(self, limit: CallLimit, begun: float) -> None:
        self.begun = begun
        self.is_answered = False
        self._limit = limit

    def answered(self) -> None:
        """There was an answer, whatever it says: its time tells of the bound."""
        self.is_answered = True

    def refused(self) -> None:
        """The server did not answer, or said that it cannot."""
        self._limit.refused(self.begun)
