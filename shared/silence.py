"""Notices that NATS is gone although nobody has said so: its machine died, or the network swallows everything.

Such a connection looks well until the kernel gives it up, minutes later. nats-py's own pings notice it after half a minute, and
then it takes another half to say goodbye over TLS to a peer that does not answer, before it connects anew. So there are pings of
our own, and a silent connection is cut without a word.
"""

import asyncio

import nats.errors
from nats.aio.client import Client

from shared import logs

EVERY = 2.0
"""Seconds between two pings: a few bytes."""

PATIENCE = 4.0
"""Seconds an answer may take: with `EVERY` less than the ten in which everything shall be well after an outage, and more than a
busy machine makes NATS wait."""


async def cut_when_silent(client: Client) -> None:
    """Until cancelled; the client then connects anew by itself, as after every loss."""
    while True:
        await asyncio.sleep(EVERY)
        if client.is_connected and not await _answers(client):
            logs.logger("broker").warning("nats_silent", seconds=PATIENCE)
            _cut(client)


async def _answers(client: Client) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):  # `flush` bounds only its wait for the answer
            await client.flush(timeout=int(2 * PATIENCE))
    except (nats.errors.Error, OSError):  # OSError: a timeout, or the socket has told by itself
        return not client.is_connected
    return True


def _cut(client: Client) -> None:
    """No goodbye: nats-py's way to close waits for the peer's."""
    writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001  there is no public way
    if writer is not None:
        writer.transport.abort()
