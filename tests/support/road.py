"""The whole road inside a test session: Moorgate's services as processes on the session's control plane.

Each road has its own NATS, Anchore simulator and services, and is registered only for the namespaces that
bear its label, so that roads with other settings, and tests without any, share one API server.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import Process
from deploy.dev.services import Services
from deploy.dev.stack import register, simulator, unregister

LABEL = "moorgate.test/road"
POLL = 0.1
"""Seconds between two looks at something that cannot be waited for otherwise."""


async def until(is_so: Callable[[], Awaitable[object]], what: str, seconds: float = 15) -> Any:
    """The first true value of `is_so`, asked again and again until then; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if value := await is_so():
            return value
        assert time.monotonic() < deadline, f"not so after {seconds} s: {what}"
        await asyncio.sleep(POLL)


@dataclass(kw_only=True)
class Road:
    """One registered Moorgate with what it needs."""

    plane: ControlPlane
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"road-{secrets.token_hex(4)}")
    anchore_port: int = field(default_factory=free_port)
    nats: NatsServer = field(init=False)
    anchore: Process = field(init=False)
    services: Services = field(init=False)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    @property
    def anchore_url(self) -> str:
        """The simulator, without the version."""
        return f"http://127.0.0.1:{self.anchore_port}"

    async def start(self) -> None:
        """Start all parts and register them."""
        self.nats = NatsServer(folder=self.folder / "nats")
        self.anchore = simulator(self.folder, self.anchore_port, [])
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.nats)
            await stack.enter_async_context(self.anchore)
            self.services = Services(
                folder=self.folder / "moorgate",
                nats_url=self.nats.url,
                kubeconfig=self.plane.kubeconfig(),
                anchore_url=self.anchore_url,
                settings=self.settings,
                replicas=self.replicas,
            )
            await stack.enter_async_context(self.services)
            selector = {"matchLabels": {LABEL: self.name}}
            await register(self.plane, self.services, self.name, selector)
            stack.push_async_callback(unregister, self.plane, self.name)
            self._open = stack.pop_all()

    async def stop(self) -> None:
        """Unregister, then stop all parts."""
        await self._open.aclose()

    async def namespace(self, name: str = "") -> Kubectl:
        """kubectl in a new namespace that this road watches over."""
        name = name or f"{self.name}-{secrets.token_hex(3)}"
        admin = Kubectl(self.plane)
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {LABEL: self.name}},
        }
        await admin.create(manifest)
        return Kubectl(self.plane, name)

    async def tell_anchore(self, command: str, **body: object) -> Any:
        """A command through the simulator's door."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.anchore_url}/simulator/{command}", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def calls(self, operation: str, image: str) -> int:
        """How often Anchore was asked this about this image."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.anchore_url}/simulator") as answer:
            counted = await answer.json()
        return int(counted["images"].get(image, {}).get(operation, 0))

    async def metric(self, service: str, sample: str) -> float:
        """A sample of a service's metrics, such as `moorgate_scans_total{result="pass"}`; 0 while it isn't there."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.services.probes_url(service)}/metrics") as answer,
        ):
            text = await answer.text()
        found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


async def audit(kubectl: Kubectl, prefix: str, seconds: float = 15) -> dict[str, Any]:
    """The one Audit whose name begins so, as soon as it is there."""

    async def find() -> dict[str, Any] | None:
        found = [each for each in await kubectl.get("audits") if each["metadata"]["name"].startswith(prefix)]
        assert len(found) <= 1, [each["metadata"]["name"] for each in found]
        return found[0] if found else None

    found: dict[str, Any] = await until(find, f"an Audit {prefix}…", seconds)
    return found


def pod(name: str, image: str, **spec: Any) -> dict[str, Any]:
    """A Pod of one container."""
    metadata = {"name": name, "labels": spec.pop("labels", {})}
    containers = [{"name": "main", "image": image}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers, **spec},
    }


@pytest.fixture(scope="session")
def road(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """The session's road, with the settings that are the default."""
    # A loop of its own: fixtures of a session outlive the loops of the tests.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        road = Road(plane=control_plane, folder=tmp_path_factory.mktemp("road"))
        runner.run(road.start())
        try:
            yield road
        finally:
            runner.run(road.stop())


@pytest.fixture
async def kube(road: Road) -> AsyncIterator[Kubectl]:
    """kubectl in a namespace of the road, removed afterwards without waiting."""
    kubectl = await road.namespace()
    yield kubectl
    await kubectl.ok("delete", "namespace", kubectl.namespace, "--wait=false")
