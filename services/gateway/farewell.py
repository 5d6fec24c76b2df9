"""How connections that callers keep open come to their end without a request being lost.

HTTP cannot call a kept connection off: it is closed, and a POST that was on its way fails, for Go repeats only what
is idempotent (https://pkg.go.dev/net/http#Transport). What a server can do is to close those that nobody is about to
use. Go's client takes the connection it used last, so the quietest are closed first, bit by bit, and a few of each
caller stay: its next requests come on these and are answered with `Connection: close`, and what follows goes where
the Service sends it.
"""

import array
import asyncio
import fcntl
import socket
import struct
import termios
from collections import defaultdict
from collections.abc import Callable, Iterable

import msgspec

KEPT = 4
"""Connections of a caller that are not closed but answered on: as many as it may choose from while one is closed."""

STEP = 0.05
"""Seconds from one look at the connections to the next."""

QUIET = 0.5
"""Seconds without a byte after which a connection is not in use; longer than a request is on its way, also where machines are busy."""

_LAST_DATA_RECEIVED = struct.Struct("@52xI")
"""`tcpi_last_data_recv`, milliseconds, of `struct tcp_info` (linux/tcp.h)."""


class _Quiet(msgspec.Struct, frozen=True):
    transport: asyncio.Transport
    caller: str
    seconds: float
    """Since its last byte came."""


async def see_off(idle: Callable[[], Iterable[asyncio.Transport]], seconds: float) -> None:
    """Spend `seconds` on closing the `idle` connections: over the first half all but `KEPT` of each caller."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    while (left := ends - loop.time()) > 0:
        steps = max(1, round((left - seconds / 2) / STEP))
        quiet = _to_be_closed(idle())
        for each in quiet[: -(-len(quiet) // steps)]:
            each.transport.close()
        await asyncio.sleep(min(STEP, left))  # what happens next is the callers'


def _to_be_closed(idle: Iterable[asyncio.Transport]) -> list[_Quiet]:
    """All but the `KEPT` of each caller that were used last, the quietest first."""
    of_caller: dict[str, list[_Quiet]] = defaultdict(list)
    for transport in reversed(
        list(idle)
    ):  # where the kernel's clock sees no difference the newest counts as the latest
        found = _look(transport)
        of_caller[found.caller].append(found)
    spare: list[_Quiet] = []
    for each in of_caller.values():
        spare += sorted(each, key=lambda one: one.seconds)[KEPT:]
    return sorted(
        (each for each in spare if each.seconds >= QUIET), key=lambda one: one.seconds, reverse=True
    )


def _look(transport: asyncio.Transport) -> _Quiet:
    """As the kernel has it, which has received what this process has not read yet."""
    peer, connection = transport.get_extra_info("peername"), transport.get_extra_info("socket")
    caller = str(peer[0]) if peer else ""
    try:
        unread = array.array("i", [0])
        fcntl.ioctl(connection.fileno(), termios.FIONREAD, unread)
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
    except OSError:  # it has just gone by itself
        return _Quiet(transport, caller, 0.0)
    since = _LAST_DATA_RECEIVED.unpack(info)[0] / 1000
    return _Quiet(transport, caller, 0.0 if unread[0] else since)
