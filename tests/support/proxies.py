"""What stands between programs in a real cluster: a Service before the gateways, a slow road to the API server.

Both pass bytes on and know nothing of what they mean.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from deploy.dev.processes import Probe, answers_ok

LOOK = 0.1
"""Seconds between two looks at readiness."""

CHUNK = 65536


@dataclass
class Throttle:
    """How an API server answers that has too much to do."""

    port: int
    delay: float = 0.0
    """Seconds by which each piece of an answer comes late."""
    is_open: bool = True
    """False: connections are refused as soon as they are made."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """The port to use instead."""
        async with _listening(lambda: self.port if self.is_open else None, lambda: self.delay) as port:
            yield port


@dataclass
class Service:
    """New connections go to a backend that says it is ready, in turn; there is no second try."""

    backends: dict[int, str]
    """Port to the URL of its readiness."""
    ready: list[int] = field(default_factory=list)
    _turn: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """The port of the Service."""
        probes = {port: answers_ok(url) for port, url in self.backends.items()}
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(probes))
            async with _listening(self._next, lambda: 0.0) as port:
                yield port
            watching.cancel()

    async def _watch(self, probes: dict[int, Probe]) -> None:
        while True:
            answers = await asyncio.gather(*(probe() for probe in probes.values()))
            self.ready = [port for port, is_ready in zip(probes, answers, strict=True) if is_ready]
            await asyncio.sleep(LOOK)

    def _next(self) -> int | None:
        self._turn += 1
        return self.ready[self._turn % len(self.ready)] if self.ready else None


def _listening(
    choose: Callable[[], int | None], delay: Callable[[], float]
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
                await _pass_on(reader, writer, choose(), delay)
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
    delay: Callable[[], float],
) -> None:
    if port is None:
        return
    there, back = await asyncio.open_connection("127.0.0.1", port)
    try:
        ways = [
            asyncio.create_task(_copy(reader, back, lambda: 0.0)),
            asyncio.create_task(_copy(there, writer, delay)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
    finally:
        back.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: Callable[[], float]) -> None:
    while chunk := await source.read(CHUNK):
        if seconds := delay():
            await asyncio.sleep(seconds)
        sink.write(chunk)
        await sink.drain()
