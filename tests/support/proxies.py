"""What stands between programs in a real cluster: a Service before the gateways, a slow road to the API server.

Both pass bytes on and know nothing of what they mean.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from deploy.dev.processes import Probe, answers_ok

LOOK = 0.1
"""Seconds between two looks at readiness."""

CHUNK = 65536


class Pace(NamedTuple):
    """How fast a connection passes bytes on."""

    delay: float = 0.0
    piece: int = CHUNK


@dataclass
class Throttle:
    """How an API server answers that has too much to do, or what comes over a narrow road."""

    port: int
    delay: float = 0.0
    """Seconds by which each piece of an answer comes late."""
    piece: int = CHUNK
    """Bytes of a piece at most."""
    is_open: bool = True
    """False: connections are refused as soon as they are made."""
    taken: int = 0
    """Connections that were made, refused ones too."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """The port to use instead."""
        async with _listening(self._choose, lambda: Pace(self.delay, self.piece)) as port:
            yield port

    def _choose(self) -> int | None:
        self.taken += 1
        return self.port if self.is_open else None


@dataclass
class Service:
    """New connections go to a backend that says it is ready, in turn; there is no second try."""

    backends: dict[int, str]
    """Port to the URL of its readiness."""
    ready: list[int] = field(default_factory=list)
    leaving: int | None = None
    """The backend whose Pod is being deleted: it is out of the endpoints before the chart's preStop has ended."""
    _turn: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """The port of the Service."""
        probes = {port: answers_ok(url) for port, url in self.backends.items()}
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(probes))
            async with _listening(self._next, Pace) as port:
                yield port
            watching.cancel()

    async def _watch(self, probes: dict[int, Probe]) -> None:
        while True:
            answers = await asyncio.gather(*(probe() for probe in probes.values()))
            self.ready = [port for port, is_ready in zip(probes, answers, strict=True) if is_ready]
            await asyncio.sleep(LOOK)

    def _next(self) -> int | None:
        self._turn += 1
        taken = [port for port in self.ready if port != self.leaving]
        return taken[self._turn % len(taken)] if taken else None


def _listening(
    choose: Callable[[], int | None], pace: Callable[[], Pace]
) -> AbstractAsyncContextManager[int]:
    @asynccontextmanager
    async def listen() -> AsyncIterator[int]:
        connections: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            task.add_done_callback(connections.discard)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await _pass_on(reader, writer, choose(), pace)
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=1024)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for each in connections:
                each.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    return listen()


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    port: int | None,
    pace: Callable[[], Pace],
) -> None:
    if port is None:
        return
    there, back = await asyncio.open_connection("127.0.0.1", port)
    try:
        ways = [
            asyncio.create_task(_copy(reader, back, Pace)),
            asyncio.create_task(_copy(there, writer, pace)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
    finally:
        back.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, pace: Callable[[], Pace]) -> None:
    while chunk := await source.read(pace().piece):
        if seconds := pace().delay:
            await asyncio.sleep(seconds)
        sink.write(chunk)
        await sink.drain()
