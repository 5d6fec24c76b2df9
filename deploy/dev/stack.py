"""The whole road on this machine: NATS, control plane, Anchore simulator, Moorgate's services, registered.

What the demo tells its story on, `make dev` leaves running and the integration tests drive.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubeapi import KubeApi
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.registration import webhook_configurations
from deploy.dev.services import ROOT, Services

CRDS = ROOT / "deploy" / "helm" / "moorgate" / "files" / "crds"
"""The one copy, inside the chart."""

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"

Step = Callable[[str, Awaitable[Any]], Awaitable[Any]]


def simulator(folder: Path, port: int, flags: list[str]) -> Process:
    """The Anchore simulator as a program of its own."""
    return Process(
        name="anchore-simulator",
        argv=[sys.executable, "-m", "deploy.dev.anchore", "--port", str(port), *flags],
        log=folder / "anchore.log",
        ready=answers_ok(f"http://127.0.0.1:{port}/health"),
        cwd=ROOT,
    )


async def register(
    plane: ControlPlane, services: Services, name: str, namespaces: dict[str, Any] | None = None
) -> None:
    """Tell the API server to ask the first gateway."""
    async with KubeApi(plane.kubeconfig()) as api:
        for body in webhook_configurations(name, services.webhook_url(), services.ca, namespaces):
            await api.request("POST", WEBHOOKS, body)


async def unregister(plane: ControlPlane, name: str) -> None:
    """Take the registration back."""
    async with KubeApi(plane.kubeconfig()) as api:
        for kind in ("pods", "workloads"):
            await api.request("DELETE", f"{WEBHOOKS}/{name}-{kind}")


async def _quietly(_: str, work: Awaitable[Any]) -> Any:
    return await work


@dataclass(kw_only=True)
class Stack:
    """Everything below one folder; `step` is told of each long step while it is awaited."""

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    simulator_flags: list[str] = field(default_factory=list)
    replicas: Mapping[str, int] = field(default_factory=dict)
    step: Step = _quietly
    plane: ControlPlane = field(init=False)
    nats: NatsServer = field(init=False)
    anchore: Process = field(init=False)
    services: Services = field(init=False)
    anchore_port: int = field(default_factory=free_port)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    @property
    def anchore_url(self) -> str:
        """The simulator, without the version."""
        return f"http://127.0.0.1:{self.anchore_port}"

    async def analysis_takes(self, reference: str, seconds: float) -> None:
        """Make the simulator's analysis of an image slow or fast."""
        async with aiohttp.ClientSession() as session:
            body = {"reference": reference, "seconds": seconds}
            async with session.post(f"{self.anchore_url}/simulator/analysis", json=body) as answer:
                answer.raise_for_status()

    async def start(self) -> None:
        """Start all, in the order in which they need one another; on failure nothing is left running."""
        self.nats = NatsServer(folder=self.folder / "nats")
        self.plane = ControlPlane(folder=self.folder / "control-plane", crds=CRDS)
        self.anchore = simulator(self.folder, self.anchore_port, self.simulator_flags)
        async with AsyncExitStack() as stack:
            await self.step("NATS with JetStream", stack.enter_async_context(self.nats))
            await self.step("Anchore (a simulator)", stack.enter_async_context(self.anchore))
            await self.step("Kubernetes control plane", stack.enter_async_context(self.plane))
            self.services = Services(
                folder=self.folder / "moorgate",
                nats_url=self.nats.url,
                kubeconfig=self.plane.kubeconfig(),
                anchore_url=self.anchore_url,
                settings=self.settings,
                replicas=self.replicas,
            )
            await self.step("Moorgate's services", stack.enter_async_context(self.services))
            await self.step("Webhooks registered", register(self.plane, self.services, "moorgate"))
            self._open = stack.pop_all()

    async def stop(self) -> None:
        """Stop all, last started first."""
        await self._open.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
