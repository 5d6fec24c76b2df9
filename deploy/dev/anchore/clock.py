"""The simulator's time: the machine's clock, which tests may stop, set and wind on.

Analyses take time, feeds grow stale and deleted users linger: all of it reads this clock, so that a test never sleeps.
"""

import time


class Clock:
    """Seconds since the epoch; runs with the machine unless it was stopped."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._stopped_at: float | None = None

    def now(self) -> float:
        """The simulator's present."""
        if self._stopped_at is not None:
            return self._stopped_at
        return time.time() + self._offset

    def stop_at(self, moment: float) -> None:
        """Stand still at `moment` until set or wound on again."""
        self._stopped_at = moment

    def advance(self, seconds: float) -> None:
        """Wind on, stopped or running."""
        if self._stopped_at is not None:
            self._stopped_at += seconds
        else:
            self._offset += seconds
