"""The road from admission to Audit beside a control plane that is there: NATS, Anchore, services, registered.

A road watches over the namespaces of its selector only, so that several with other settings can share one
API server; each has its own NATS, its own Anchore simulator and its own processes.
"""

import asyncio
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
from deploy.dev.nats_access import NatsAccess
from deploy.dev.nats_cluster import NatsCluster
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.registration import webhook_configurations
from deploy.dev.services import ROOT, Services

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"

Step = Callable[[str, Awaitable[Any]], Awaitable[Any]]
"""Told of each long step while it is awaited."""


async def quietly(_: str, work: Awaitable[Any]) -> Any:
    """A step that nobody is told of."""
    return await work


@dataclass(kw_only=True)
class Road:
    """One registered Moorgate with what it needs."""

    plane: ControlPlane
    folder: Path
    name: str = "moorgate"
    """Of the webhook configurations, and of the namespace for Leases."""
    namespaces: dict[str, Any] | None = None
    """A label selector; None: all but those the cluster needs to start."""
    settings: Mapping[str, str] = field(default_factory=dict)
    replicas: Mapping[str, int] = field(default_factory=dict)
    has_page: bool = False
    """Whether the audit-writers serve the page."""
    nats_servers: int = 1
    """1 or 3: then every message is kept three times."""
    step: Step = quietly
    anchore_port: int = field(default_factory=free_port)
    nats_cluster: NatsCluster = field(init=False)
    nats: NatsServer = field(init=False)
    """The only server, or the first."""
    anchore: Process = field(init=False)
    services: Services = field(init=False)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    @property
    def anchore_url(self) -> str:
        """The simulator, without the version."""
        return f"http://127.0.0.1:{self.anchore_port}"

    async def start(self) -> None:
        """Start all parts and register them; on failure nothing is left running."""
        self.nats_cluster = self._describe_nats()
        self.nats = self.nats_cluster.servers[0]
        self.anchore = self._simulator()
        async with AsyncExitStack() as stack:
            await self.step("NATS with JetStream", stack.enter_async_context(self.nats_cluster))
            await self.step("Anchore (a simulator)", stack.enter_async_context(self.anchore))
            await self._make_namespace()
            self.services = self._describe_services()
            await self.step("Moorgate's services", stack.enter_async_context(self.services))
            url = await self._open_door(stack)
            await self.step("Webhooks registered", self._register(url))
            stack.push_async_callback(self._unregister)
            self._open = stack.pop_all()

    async def stop(self) -> None:
        """Unregister, then stop all parts, last started first."""
        await self._open.aclose()

    async def tell_anchore(self, command: str, **body: object) -> Any:
        """A command through the simulator's door (deploy/dev/anchore/door.py)."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.anchore_url}/simulator/{command}", json=body) as answer,
        ):
            if answer.status != 200:  # noqa: PLR2004  HTTP's own number
                raise ValueError(await answer.text())
            return await answer.json()

    async def calls(self, operation: str, image: str) -> int:
        """How often Anchore was asked this about this image."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.anchore_url}/simulator") as answer:
            counted = await answer.json()
        return int(counted["images"].get(image, {}).get(operation, 0))

    def _describe_nats(self) -> NatsCluster:
        folder = self.folder / "nats"
        access = NatsAccess(folder=folder / "etc")
        return NatsCluster.of(folder=folder, access=access, size=self.nats_servers)

    def _describe_services(self) -> Services:
        return Services(
            folder=self.folder / "moorgate",
            nats_url=self.nats_cluster.url,
            nats_access=self.nats_cluster.settings,
            kubeconfig=self.plane.kubeconfig(),
            namespace=self.name,
            anchore_url=self.anchore_url,
            settings={"MOORGATE_NATS_REPLICAS": str(self.nats_servers), **self.settings},
            own_settings=self._own_settings,
            replicas=self.replicas,
            has_page=self.has_page,
        )

    def _own_settings(self, process: str) -> Mapping[str, str]:  # noqa: ARG002  for roads whose processes differ
        """More settings of one process."""
        return {}

    async def _open_door(self, stack: AsyncExitStack) -> str:  # noqa: ARG002  for roads with a Service before it
        """Where the API server is to post to; `stack` closes what that needs."""
        return self.services.webhook_url()

    def _simulator(self) -> Process:
        return Process(
            name="anchore-simulator",
            argv=[sys.executable, "-m", "deploy.dev.anchore", "--port", str(self.anchore_port)],
            log=self.folder / "anchore.log",
            ready=answers_ok(f"{self.anchore_url}/health"),
            cwd=ROOT,
        )

    async def _make_namespace(self) -> None:
        async with KubeApi(self.plane.kubeconfig()) as api:
            await api.request("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})

    async def _register(self, url: str) -> None:
        """Tell the API server whom to ask."""
        async with KubeApi(self.plane.kubeconfig()) as api:
            for body in webhook_configurations(self.name, url, self.services.ca, self.namespaces):
                await api.request("POST", WEBHOOKS, body)

    async def _unregister(self) -> None:
        async with KubeApi(self.plane.kubeconfig()) as api:
            await asyncio.gather(
                *(api.request("DELETE", f"{WEBHOOKS}/{self.name}-{kind}") for kind in ("pods", "workloads"))
            )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
