"""Notices that NATS is gone although nobody has said so: its machine died, or the network swallows everything.

Such a connection looks well until the kernel gives it up, minutes later. nats-py's own pings notice it after half a minute, and
then it takes another half to say goodbye over TLS to a peer that does not answer, before it connects anew. So there are pings of
our own, and a silent connection is cut without a word.
"""

import asyncio

from nats.aio.client import Client

from shared import logs

NEVER = 24 * 3600
"""Seconds: we have a bound of our own."""

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
    ping = asyncio.create_task(client.flush(timeout=NEVER))
    try:
        heard, quiet, connections = client.stats["in_msgs"], 0, client.stats["reconnects"]
        while quiet < PATIENCE / LOOK:
            is_answered = (await asyncio.wait({ping}, timeout=LOOK))[
                0
            ]  # or the connection has told by itself
            if is_answered or client.stats["reconnects"] != connections:
                return False
            quiet = quiet + 1 if client.stats["in_msgs"] == heard else 0
            heard = client.stats["in_msgs"]
        return client.is_connected
    finally:
        ping.cancel()
        await asyncio.gather(ping, return_exceptions=True)


def cut(client: Client) -> None:
    """Close its connection without a goodbye: nats-py's way to close waits for the peer's."""
    writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001  there is no public way
    if writer is not None:
        writer.transport.abort()
