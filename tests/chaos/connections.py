"""Connections of the harness to NATS: never the ones that have to recover.

Each is made anew and breaks at the first failure, which whoever asks is told of at once.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client

FAILURES = (nats.errors.Error, nats.js.errors.Error, OSError)
"""What NATS being away looks like."""


async def connect(options: Mapping[str, Any], within: float) -> Client:
    """A connection that does not come back by itself. Raises one of `FAILURES` after so many seconds."""
    return await nats.connect(**options, allow_reconnect=False, connect_timeout=within, error_cb=_ignore)


@asynccontextmanager
async def connected(options: Mapping[str, Any], within: float = 2.0) -> AsyncIterator[Client]:
    """The same for as long as the context lasts."""
    client = await connect(options, within)
    try:
        yield client
    finally:
        await hang_up(client)


async def hang_up(client: Client) -> None:
    """Without a goodbye: over TLS nats-py waits half a minute for that of a peer that is not there any more."""
    writer = getattr(client._transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()
    await client.close()


async def _ignore(_: Exception) -> None:
    """Whoever asks is told."""
