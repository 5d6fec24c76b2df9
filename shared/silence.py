"""Notices that NATS is gone although nobody has said so: its machine died, or the network swallows everything.

Such a connection looks well until the kernel gives it up, minutes later. nats-py's own pings notice it after half a minute, and
then it takes another half to say goodbye over TLS to a peer that does not answer, before it connects anew. So there are pings of
our own, and a silent connection is cut without a word.
"""

import asyncio
import contextlib

from nats.aio.client import Client

from shared import logs

EVERY = 2.0
"""Seconds between two pings: a few bytes."""

PATIENCE = 4.0
"""Seconds in which something must come while an answer is waited for: with `EVERY` less than the ten in which everything shall
be well after an outage, and more than a busy machine makes NATS wait."""

LOOK = 0.5
"""Seconds between two looks whether something has come."""


async def cut_when_silent(client: Client) -> None:
    """Until cancelled; the client then connects anew by itself, as after every loss."""
    while True:
        await asyncio.sleep(EVERY)
        if client.is_connected and await _is_silent(client):
            logs.logger("broker").warning("nats_silent", seconds=PATIENCE)
            cut(client)


async def _is_silent(client: Client) -> bool:
    """Whether a ping is not answered and nothing else comes either.

    The answer stands behind all that NATS has sent before: a mirror of 100,000 verdicts, on a busy machine, for longer than
    anybody's patience. Looks are counted, not seconds: a process that was stopped has not looked.
    """
    answer = _Answer()
    try:
        await client._send_ping(answer)  # type: ignore[arg-type]  # noqa: SLF001  `flush` waits with a future
    except (OSError, RuntimeError):  # uvloop's word for a connection that has just gone: that is told already
        return False
    heard, quiet, connections = client.stats["in_msgs"], 0, client.stats["reconnects"]
    while quiet < PATIENCE / LOOK:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(answer.is_there.wait(), LOOK)
        if answer.is_there.is_set() or client.stats["reconnects"] != connections:
            return False
        quiet = quiet + 1 if client.stats["in_msgs"] == heard else 0
        heard = client.stats["in_msgs"]
    return client.is_connected


class _Answer:
    """What nats-py tells of a pong: a future that nobody waits for any more ends its reading for good."""

    def __init__(self) -> None:
        self.is_there = asyncio.Event()

    def set_result(self, _: bool) -> None:  # noqa: FBT001  as a future has it
        """The pong is here."""
        self.is_there.set()


def cut(client: Client) -> None:
    """Close its connection without a goodbye: nats-py's way to close waits for the peer's."""
    writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001  there is no public way
    if writer is not None:
        writer.transport.abort()
