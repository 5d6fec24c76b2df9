"""An ordered consumer of a stream: everything pushed as it comes, nothing acknowledged, and every gap noticed.

The server numbers what it sends and gives signs of life while there is nothing; what is missing, silent or
reconnected puts the consumer in doubt, and whoever follows begins a new one. nats-py 2.16 has one too, which takes
twice as long for 100,000 messages and notices a restarted server up to 20 s late.

Source: ADR-17 of the NATS architecture (ordered consumers), and flow control of push consumers.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo

from shared.broker import Broker

HEARTBEAT = 5.0
"""Seconds between the server's signs of life while nothing happens."""

SILENCE = 2.5 * HEARTBEAT
"""Seconds without one after which the consumer counts as lost."""

INACTIVE = 30.0
"""Seconds after which the server forgets a consumer that nobody listens to."""

_TOKENS, _TOKENS_WITH_DOMAIN = 9, 11
"""Of the subject that a delivery is acknowledged on, which says where it stands; a heartbeat's has fewer."""


class Position(NamedTuple):
    """Where a delivery stands."""

    consumed: int
    """Number in this consumer's life, from 1."""
    sequence: int
    """In the stream."""
    pending: int
    """Messages that are still to come."""


class OrderedConsumer:
    """One consumer after the other, of one stream, for one taker."""

    def __init__(self, broker: Broker, stream: str, take: Callable[[Msg, Position], None]) -> None:
        """`take`: told of each message, in order, once a consumer's life."""
        self._broker = broker
        self._stream = stream
        self._tell = take
        self._expected = 1
        self._last_heard = 0.0
        self._doubt = asyncio.Event()
        broker.on_reconnect(self._doubt.set)

    async def live(self, nothing_there: Callable[[], None], **which: Any) -> ConsumerInfo:
        """One consumer's life: returns what it was when something is in doubt.

        `nothing_there`: called where there is nothing to send at its start. `which`: fields of its `ConsumerConfig`.
        Raises what nats-py raises.
        """
        self._doubt.clear()
        self._expected, self._last_heard = 1, asyncio.get_running_loop().time()
        inbox = self._broker.client.new_inbox()
        subscription = await self._broker.client.subscribe(inbox, cb=self._take)
        try:
            info = await self._broker.jetstream.add_consumer(self._stream, _config(inbox, which))
            if not info.num_pending and self._expected == 1:
                nothing_there()
            await self._until_in_doubt()
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
        return info

    async def _until_in_doubt(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._doubt.is_set() and (left := self._last_heard + SILENCE - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), left)

    async def _take(self, message: Msg) -> None:
        """A message of the stream, a heartbeat, or flow control that wants an answer."""
        self._last_heard = asyncio.get_running_loop().time()
        position = _position(message.reply)
        if position is None:
            answer_to = message.reply or (message.headers or {}).get("Nats-Consumer-Stalled", "")
            if answer_to:
                await self._broker.client.publish(answer_to)
            return
        if position.consumed != self._expected:
            self._doubt.set()
            return
        self._expected += 1
        self._tell(message, position)


def _position(reply: str) -> Position | None:
    """None: the message is none of the stream.

    nats-py's own metadata, with the time and the names that nobody asks for, are a quarter of what a mirror costs.
    Source: ADR-15 of the NATS architecture.
    """
    tokens = reply.split(".")
    if len(tokens) < _TOKENS:
        return None
    first = 5 if len(tokens) < _TOKENS_WITH_DOMAIN else 7
    sequence, consumed, _, pending = map(int, tokens[first : first + 4])
    return Position(consumed, sequence, pending)


def _config(inbox: str, which: dict[str, Any]) -> ConsumerConfig:
    return ConsumerConfig(
        deliver_subject=inbox,
        ack_policy=AckPolicy.NONE,
        idle_heartbeat=HEARTBEAT,
        flow_control=True,
        mem_storage=True,
        num_replicas=1,
        inactive_threshold=INACTIVE,
        **which,
    )
