"""One deadline a request: made from the API server's own timeout and passed to every wait.

The API server sends its timeout with each call (`?timeout=10s`). Past it, nobody reads the answer: the
request counts as failed and falls to the webhook's failurePolicy, so the wait ends a margin earlier.
"""

import asyncio

import msgspec

from shared.settings import parse_duration

DEFAULT_TIMEOUT = 10.0
"""Seconds: what the API server uses where a webhook sets none (admissionregistration v1)."""

CONTROLLER_WAIT = 0.5
"""Seconds a built-in controller is kept: it has few workers, and each waits with its Pod."""

RECORD_WAIT = 0.5
"""Seconds for recording at least, where the API server's timeout has room: an acknowledgement takes milliseconds."""


class Deadline(msgspec.Struct, frozen=True):
    """A moment on the event loop's clock."""

    at: float
    last: float = 0.0
    """Until when an answer is read at all; never before `at`."""

    @property
    def to_record(self) -> float:
        """Seconds left for recording the decision: a while past a wait for verdicts that took all its time."""
        now = asyncio.get_running_loop().time()
        return max(self.at, min(self.last, now + RECORD_WAIT)) - now

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - asyncio.get_running_loop().time())

    def capped(self, started: float, seconds: float) -> "Deadline":
        """This deadline, or `seconds` after `started` if that is earlier."""
        return Deadline(min(self.at, started + seconds), self.last)


def deadline(started: float, timeout: str | None, *, max_wait: float, margin: float) -> Deadline:
    """Until when an answer may be waited for; `started` and the result on the event loop's clock.

    A timeout that cannot be read counts as the API server's default.
    """
    try:
        allowed = parse_duration(timeout) if timeout else DEFAULT_TIMEOUT
    except ValueError:
        allowed = DEFAULT_TIMEOUT
    last = started + max(0.0, allowed - margin / 2)
    return Deadline(started + max(0.0, min(max_wait, allowed - margin)), last)
