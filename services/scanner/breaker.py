"""The circuit breaker before one tenant's Anchore: who is down is not asked by everybody at once.

It opens after a few failures in a row of one operation (of one: while checks fail, adding images may go on well).
While it is open every scan fails at once; only the housekeeping goes on asking, at a growing distance, and its
first answer closes it. Source: https://martinfowler.com/bliki/CircuitBreaker.html
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

from shared.errors import Unavailable

THRESHOLD = 5
"""Failures of one operation in a row: fewer are an image's own trouble, or a connection's."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
"""Seconds between two questions to one that is away: doubled each time; recovery is noticed within the longest."""

JITTER = 0.2
"""Part of a pause by which it varies, so that scanners do not ask in step."""


class Breaker:
    """Closed at first."""

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()
        self._pauses = 0
        self._closed = asyncio.Event()
        self._closed.set()
        self._why = ""
        self._on_open: list[Callable[[], None]] = []
        self._on_close: list[Callable[[], None]] = []

    @property
    def is_open(self) -> bool:
        """Nobody but the housekeeping asks."""
        return not self._closed.is_set()

    def on_open(self, call: Callable[[], None]) -> None:
        """Call `call` whenever it opens."""
        self._on_open.append(call)

    def on_close(self, call: Callable[[], None]) -> None:
        """Call `call` whenever it closes again."""
        self._on_close.append(call)

    def must_be_closed(self) -> None:
        """Raises `Unavailable` without a call while it is open."""
        if self.is_open:
            raise Unavailable("anchore", f"not asked: {self._why}")

    async def lets_through(self) -> bool:
        """Whether scans may go on; the probe of those that wait."""
        return not self.is_open

    def answered(self, operation: str) -> None:
        """An operation got an answer, whatever it says."""
        self._failures.pop(operation, None)

    def failed(self, operation: str, why: str) -> None:
        """An operation got none, or an inner error."""
        self._failures[operation] += 1
        if self._failures[operation] >= THRESHOLD:
            self.open(f"{THRESHOLD} failures in a row, the last: {why}")

    def open(self, why: str) -> None:
        """Nobody is there; the housekeeping found that out, or the scans did."""
        if self.is_open:
            return
        self._why = why
        self._closed.clear()
        for call in self._on_open:
            call()

    def close(self) -> None:
        """The housekeeping got its answers."""
        self._failures.clear()
        self._pauses = 0
        was_open = self.is_open
        self._closed.set()
        for call in self._on_close if was_open else ():
            call()

    def next_pause(self) -> float:
        """Seconds until the housekeeping should ask again: 1, 2, 4, 8, then 10, each a little off and none longer."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._pauses, 10))
        self._pauses += 1
        return min(LONGEST_PAUSE, pause * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  no secret
