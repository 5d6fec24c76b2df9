"""Reading the event stream from its beginning and on, without a part in it: nothing is acknowledged, nobody is held up.

For who shows what happened. The server sends no faster than `RATE`, so that a week of events neither floods this
process nor NATS; until all there was has come, `complete` is not set. After an interruption it goes on behind the last
event it had, and from the beginning where the stream is another one.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from shared import logs, subjects
from shared.broker import Broker
from shared.ordered_consumer import OrderedConsumer, Position

RATE = 32_000_000
"""Bits per second: a full stream (2 GiB) takes about nine minutes, an ordinary week some seconds."""

AGAIN = 2.0
"""Seconds before a lost consumer is begun anew."""


class EventFeed:
    """Every event there is and every one that comes, to one taker."""

    def __init__(
        self, broker: Broker, take: Callable[[str, bytes], None], begin_anew: Callable[[], None]
    ) -> None:
        """`take`: told of subject and payload. `begin_anew`: whatever was told before is void."""
        self.complete = asyncio.Event()
        """Set once what was there at the start has come."""
        self._broker = broker
        self._tell = take
        self._begin_anew = begin_anew
        self._sequence = 0
        """Of the last event taken."""
        self._made: datetime | str | None = None
        """When the stream that it is of was made."""
        self._consumer = OrderedConsumer(broker, subjects.EVENTS, self._take)
        self._log = logs.logger("event-feed")

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        while True:
            await self._broker.connected()
            try:
                await self._follow()
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                self._log.warning("events_interrupted", error=f"{type(error).__name__} {error}")
            await asyncio.sleep(AGAIN)

    async def _follow(self) -> None:
        """One consumer's life. The server forgets it by itself afterwards: we may not delete it."""
        await self._find_place()
        begin = DeliverPolicy.BY_START_SEQUENCE if self._sequence else DeliverPolicy.ALL
        await self._consumer.live(
            self.complete.set,
            deliver_policy=begin,
            opt_start_seq=self._sequence + 1 if self._sequence else None,
            rate_limit_bps=RATE,
        )

    async def _find_place(self) -> None:
        """From the beginning where the stream is not the one it was, or lost what had been taken."""
        found = await self._broker.jetstream.stream_info(subjects.EVENTS)
        if found.created != self._made or found.state.last_seq < self._sequence:
            self._sequence, self._made = 0, found.created
            self.complete.clear()
            self._begin_anew()

    def _take(self, message: Msg, position: Position) -> None:
        self._sequence = position.sequence
        self._tell(message.subject, message.data)
        if position.pending == 0:
            self.complete.set()
