"""Moorgate's own services as processes, beside a NATS, a control plane and an Anchore that are there.

Each service runs as it does in a container: `python -m services.…` with settings in its environment.
"""

import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from deploy.dev.ports import free_port
from deploy.dev.processes import Process, ProcessError, answers_ok

ROOT = Path(__file__).parents[2]
"""Where `services` and `shared` can be imported from."""


def _none(_: str) -> Mapping[str, str]:
    return {}


@dataclass(kw_only=True)
class Services:
    """Gateways, scanners and audit-writers; the first gateway is the one to register."""

    folder: Path
    nats_url: str
    nats_access: Callable[[str], Mapping[str, str]] | None = None
    """The settings that a user of NATS connects by (`NatsServer.settings`); None: NATS is open to everybody."""
    kubeconfig: Path
    namespace: str = "moorgate"
    """Where their Leases and Secrets live; it must be there."""
    anchore_url: str
    anchore_password: str = "foobar"  # noqa: S105  the simulator's, see deploy/dev/anchore/settings.py
    settings: Mapping[str, str] = field(default_factory=dict)
    """More settings, for all of them."""
    own_settings: Callable[[str], Mapping[str, str]] = _none
    """More settings of one process, by its name: `gateway-0`, …"""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """How many of `gateway`, `scanner`, `audit_writer`; one each without it."""
    has_page: bool = False
    """Whether the audit-writers serve the page."""
    processes: dict[str, Process] = field(default_factory=dict, init=False)
    """By name: `gateway-0`, `scanner-0`, `audit_writer-0`, …"""
    ports: dict[str, int] = field(default_factory=dict, init=False)
    """The plain port of each, by the same name; of a gateway `gateway-0/webhook` as well, of an
    audit-writer that serves the page `audit_writer-0/page`."""
    _secret: str = field(default_factory=lambda: secrets.token_hex(16), init=False)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    @property
    def ca(self) -> Path:
        """The CA that the gateways' certificate comes from, PEM."""
        return self.folder / "ca.pem"

    def webhook_url(self, gateway: str = "gateway-0") -> str:
        """Where the API server posts to."""
        return f"https://127.0.0.1:{self.ports[f'{gateway}/webhook']}/imagecheck/{self._secret}"

    def page_url(self, audit_writer: str = "audit_writer-0") -> str:
        """Where the page is, with the gateways' certificate."""
        return f"https://localhost:{self.ports[f'{audit_writer}/page']}"

    def probes_url(self, name: str) -> str:
        """Where a service serves metrics and readiness."""
        return f"http://127.0.0.1:{self.ports[name]}"

    async def start(self) -> None:
        """Make the streams, start everything and wait until each is ready; on failure nothing is left running."""
        self._write_secrets()
        await self.apply_streams()
        async with AsyncExitStack() as stack:
            for service in ("scanner", "audit_writer", "gateway"):
                for number in range(self.replicas.get(service, 1)):
                    process = self._describe(service, f"{service}-{number}")
                    stack.push_async_callback(process.stop)
                    process.launch()
            for process in self.processes.values():
                await process.wait_until_ready()
            self._open = stack.pop_all()

    async def apply_streams(self) -> None:
        """`moorgate streams apply`: make what is missing. Raises ProcessError when it fails."""
        streams = Process(
            name="streams",
            argv=[sys.executable, "-m", "services.cli", "streams", "apply"],
            log=self.folder / "streams.log",
            env=self._environment("operator"),
            cwd=ROOT,
        )
        await _finish(streams)

    async def stop(self) -> None:
        """Stop everything, last started first."""
        await self._open.aclose()

    def _describe(self, service: str, name: str) -> Process:
        port = self.ports[name] = free_port()
        extra = {"MOORGATE_METRICS_LISTEN": f"127.0.0.1:{port}"}
        if service == "gateway":
            webhook = self.ports[f"{name}/webhook"] = free_port()
            outbox = self.folder / f"{name}.outbox"
            extra |= {"MOORGATE_LISTEN": f"127.0.0.1:{webhook}", "MOORGATE_OUTBOX_DIR": str(outbox)}
        if service == "audit_writer" and self.has_page:
            page = self.ports[f"{name}/page"] = free_port()
            extra |= {
                "MOORGATE_PAGE_LISTEN": f"127.0.0.1:{page}",
                "MOORGATE_PAGE_CERT_FILE": str(self.folder / "gateway.pem"),
                "MOORGATE_PAGE_KEY_FILE": str(self.folder / "gateway.key"),
            }
        process = Process(
            name=name,
            argv=[sys.executable, "-m", f"services.{service}"],
            log=self.folder / f"{name}.log",
            ready=answers_ok(f"http://127.0.0.1:{port}/readyz"),
            ready_within=40,
            stop_within=30,
            env={**self._environment(service.replace("_", "-")), **extra, **self.own_settings(name)},
            cwd=ROOT,
        )
        self.processes[name] = process
        return process

    def _environment(self, user: str) -> dict[str, str]:
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "MOORGATE_NAMESPACE": self.namespace,
            "MOORGATE_NATS_URL": self.nats_url,
            **(self.nats_access(user) if self.nats_access else {}),
            "MOORGATE_ANCHORE_URL": self.anchore_url,
            "MOORGATE_ANCHORE_USERNAME": "admin",
            "MOORGATE_ANCHORE_PASSWORD_FILE": str(self.folder / "anchore-password"),
            "MOORGATE_TLS_CERT_FILE": str(self.folder / "gateway.pem"),
            "MOORGATE_TLS_KEY_FILE": str(self.folder / "gateway.key"),
            "MOORGATE_PATH_SECRET_FILE": str(self.folder / "path-secret"),
            **self.settings,
        }

    def _write_secrets(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(self.ca)
        certificate.private_key_pem.write_to_path(self.folder / "gateway.key")
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(self.folder / "gateway.pem", append=number > 0)
        (self.folder / "path-secret").write_text(self._secret)
        (self.folder / "anchore-password").write_text(self.anchore_password)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _finish(command: Process) -> None:
    """Run a command to its end. Raises ProcessError when it fails."""
    command.launch()
    code = await command.wait()
    if code != 0:
        raise ProcessError(f"{command.name} ended with {code}\n{command.log_tail()}")
