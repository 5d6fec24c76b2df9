"""How fast this process may write: a flood of Pods must not become a flood on the API server and etcd.

Every write of an Audit (and of what is written along with it) takes a turn here, whoever asks for it. When
the API server says it has enough (429, 5xx), no turn comes before the time it asked for has passed.
"""

import asyncio

WRITES_PER_SECOND = 50.0
"""Of one process. A real API server on small machines takes 150; Kubernetes' own controllers are held to 20."""

WRITE_BURST = 100
"""Writes without a wait after a quiet time: a rollout of 50 new workloads is written at once."""

LONGEST_PAUSE = 30.0
"""Seconds the API server can ask for at most: whatever it says, it is asked again now and then."""


class WriteRate:
    """Hands out turns, first come, first served."""

    def __init__(self, rate: float = WRITES_PER_SECOND, burst: int = WRITE_BURST) -> None:
        """`rate` a second, after a quiet time `burst` at once."""
        self._interval = 1.0 / rate
        self._credit = (burst - 1) * self._interval
        self._next = float("-inf")

    async def take(self) -> None:
        """Return when the caller may write once."""
        now = asyncio.get_running_loop().time()
        at = max(self._next, now - self._credit)
        self._next = at + self._interval
        if at > now:
            await asyncio.sleep(at - now)

    def pause(self, seconds: float) -> None:
        """No turn for so long, and no burst right after."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now + min(seconds, LONGEST_PAUSE))
