"""Looks at analyses under way, so paced that they never stand in a new image's way.

Thousands of images may be pending at once. How long each is put off grows with how many there are, and no more
than half of a lane's workers look at a time: a look that finds no room is put off again without a call.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.scanner import delays
from shared import logs, streams
from shared.broker import Broker
from shared.errors import Retryable, Unavailable
from shared.subjects import Lane

COUNT_INTERVAL = 5.0
"""Seconds between two counts of what is put off in the lane, by all scanners."""

NO_ROOM_DELAY = 4.0
"""Seconds until a look that found no room is tried again."""


class Looks:
    """One lane's looks."""

    def __init__(self, broker: Broker, lane: Lane, tenant: str, *, workers: int) -> None:
        """`workers`: tasks of this process that take deliveries of the lane."""
        self._broker = broker
        self._lane = lane
        self._tenant = tenant
        self._room = max(1, workers // 2)
        self._counted = 0
        self._put_off_since = 0
        self._log = logs.logger("looks").bind(lane=lane.value, tenant=tenant)

    async def run(self) -> None:
        """Count what is put off until cancelled."""
        while True:
            await asyncio.sleep(COUNT_INTERVAL)
            try:
                backlog = await streams.lane_backlog(self._broker, self._lane, self._tenant)
                self._counted, self._put_off_since = backlog.put_off, 0
            except Unavailable as error:
                self._log.debug("lane_not_counted", error=str(error))

    @contextmanager
    def turn(self, *, is_look: bool) -> Iterator[None]:
        """Room for one look; raises `Retryable` where there is none. What is new needs none."""
        if is_look and not self._room:
            raise Retryable("others are being looked at", delay=delays.jittered(NO_ROOM_DELAY))
        self._room -= is_look
        try:
            yield
        finally:
            self._room += is_look

    def until_next(self, attempt: int) -> float:
        """Seconds until this one's next look; counts it."""
        self._put_off_since += 1
        return delays.jittered(delays.until_next_look(attempt, self._counted + self._put_off_since))
