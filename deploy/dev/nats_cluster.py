"""The servers of one NATS: a single one, or three that keep every message three times.

They share the chart's configuration, certificates and passwords. Clients are told of all of them and take
whichever answers.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.dev.nats import NatsServer
from deploy.dev.nats_access import NatsAccess
from deploy.dev.ports import free_port
from deploy.dev.processes import ProcessError, answers_ok

ELECTION = 60.0
"""Seconds in which three servers must have found one another and agreed on a leader."""

POLL = 0.1


@dataclass(kw_only=True)
class NatsCluster:
    """Servers that belong together; each may be killed, paused or restarted alone."""

    servers: Sequence[NatsServer]
    access: NatsAccess
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    @classmethod
    def of(cls, *, folder: Path, access: NatsAccess, size: int) -> Self:
        """One server in this folder, or several in folders below it."""
        if size == 1:
            return cls(servers=[NatsServer(folder=folder, access=access)], access=access)
        ports = [free_port() for _ in range(size)]
        return cls(
            servers=[
                NatsServer(
                    folder=folder / f"nats-{number}",
                    name=f"nats-{number}",
                    access=access,
                    cluster_port=port,
                    peers=ports,
                    ready_within=ELECTION,
                )
                for number, port in enumerate(ports)
            ],
            access=access,
        )

    @property
    def url(self) -> str:
        """What clients connect to: all of them."""
        return ",".join(server.url for server in self.servers)

    def settings(self, user: str) -> dict[str, str]:
        """The settings by which a service or command connects as `user`."""
        return {"MOORGATE_NATS_URL": self.url, **self.access.settings(user)}

    def options(self, user: str) -> dict[str, Any]:
        """The same for `nats.connect`."""
        return {"servers": [server.url for server in self.servers], **self.access.options(user)}

    def named(self, name: str) -> NatsServer:
        """The server of this name, as NATS tells who leads."""
        return next(server for server in self.servers if server.name == name)

    async def start(self) -> None:
        """Start all and wait until streams can be made; on failure nothing is left running."""
        self.access.write()
        async with AsyncExitStack() as stack:
            for server in self.servers:
                stack.push_async_callback(server.stop)
            await asyncio.gather(*(server.start() for server in self.servers))
            if len(self.servers) > 1:
                await asyncio.gather(*(_knows_a_leader(server) for server in self.servers))
            self._open = stack.pop_all()

    async def stop(self) -> None:
        """An orderly stop, last one first; the stores stay."""
        await self._open.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _knows_a_leader(server: NatsServer) -> None:
    probe = answers_ok(f"{server.monitor_url}/healthz?js-server-only=true")
    try:
        async with asyncio.timeout(ELECTION):
            while not await probe():
                await asyncio.sleep(POLL)
    except TimeoutError as error:
        raise ProcessError(
            f"{server.name} found no leader within {ELECTION:g} s\n{server.process.log_tail()}"
        ) from error
