"""The simulator in one piece: starts and stops the server, and is the door for tests.

    async with Simulator(Settings(analysis_seconds=2)) as simulator:
        simulator.preload("registry.example/bulk/a:1")
        ... Anchore's API at simulator.url ...
        assert simulator.calls("check") == 1

What changes the world (push, set_vulnerabilities, fail_analysis, add_fault, …) is in `world`, and over HTTP below
`/simulator/`, see `door`.
"""

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Self

from aiohttp import web

from deploy.dev.anchore import door
from deploy.dev.anchore.catalogue import CatalogueFile
from deploy.dev.anchore.clock import Clock
from deploy.dev.anchore.server import sign
from deploy.dev.anchore.settings import Settings
from deploy.dev.anchore.watcher import watch_tags
from deploy.dev.anchore.wire import NAME
from deploy.dev.anchore.world import World

_log = logging.getLogger(__name__)

_LARGEST_REQUEST = 16 * 1024 * 1024
"""Bytes; real bundles stay far below."""


class Simulator(World):
    """One simulated Anchore Engine on one port."""

    def __init__(
        self,
        settings: Settings | None = None,
        catalogue: CatalogueFile | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(settings, catalogue, clock)
        self.url = ""
        self._port = self.settings.port
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._periodic: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; `url` is set afterwards."""
        app = web.Application(client_max_size=_LARGEST_REQUEST)
        app.on_response_prepare.append(sign)
        door.install(app, self)
        app.router.add_route("*", "/{path:.*}", self.server.answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await self.listen()
        self._periodic = [
            asyncio.create_task(watch_tags(self.engine)),
            asyncio.create_task(self.postman.go_round()),
        ]
        _log.info("%s: a simulator, not an Anchore Engine, at %s", NAME, self.url)

    async def stop(self) -> None:
        """Close the port and drop what is in hand."""
        for task in self._periodic:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._runner is not None:
            await self._runner.cleanup()

    async def listen(self) -> None:
        """Open the port, the same one again after `refuse_connections`."""
        if self._runner is None or self._site is not None:
            return
        site = web.TCPSite(self._runner, self.settings.host, self._port, reuse_address=True)
        await site.start()
        self._site = site
        self._port = int(self._runner.addresses[0][1])
        self.url = f"http://{self.settings.host}:{self._port}"

    async def refuse_connections(self) -> None:
        """Close the port: new connections are refused, open ones are cut at their next use."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._runner is not None and self._runner.server is not None:
            for connection in list(self._runner.server.connections):
                connection.force_close()
                if connection.transport is not None:
                    connection.transport.abort()
