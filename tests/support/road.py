"""The whole road inside a test session: Moorgate's services as processes on the session's control plane.

Each road has its own NATS, Anchore simulator and services, and is registered only for the namespaces that
bear its label, so that roads with other settings, and tests without any, share one API server.
"""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from deploy.dev.road import Road
from tests.support.api import Api

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
class WatchedRoad(Road):
    """A road over the namespaces of its label, and what tests ask of it."""

    name: str = field(default_factory=lambda: f"road-{secrets.token_hex(4)}")

    def __post_init__(self) -> None:
        self.namespaces = {"matchLabels": {LABEL: self.name}}

    async def stop(self) -> None:
        """As every road, which then must have needed no permission of NATS that its users lack."""
        await super().stop()
        refused = [
            f"{log.name}: {line}"
            for log in sorted(self.services.folder.glob("*.log"))
            for line in log.read_text(errors="replace").splitlines()
            if "permissions violation" in line.lower()
        ]
        assert not refused, refused[:5]

    async def namespace(self, name: str = "", **labels: str) -> Kubectl:
        """kubectl in a new namespace that this road watches over; `labels` beside the road's own."""
        name = name or f"{self.name}-{secrets.token_hex(3)}"
        admin = Kubectl(self.plane)
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {LABEL: self.name, **labels}},
        }
        await admin.create(manifest)
        return Kubectl(self.plane, name)

    def api(self) -> Api:
        """The API server without a client in between: a context manager."""
        return Api(self.plane.kubeconfig())

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
def road(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedRoad]:
    """The session's road, with the settings that are the default."""
    # A loop of its own: fixtures of a session outlive the loops of the tests.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        road = WatchedRoad(plane=control_plane, folder=tmp_path_factory.mktemp("road"))
        runner.run(road.start())
        try:
            yield road
        finally:
            runner.run(road.stop())


@pytest.fixture
async def kube(road: WatchedRoad) -> AsyncIterator[Kubectl]:
    """kubectl in a namespace of the road, removed afterwards without waiting."""
    kubectl = await road.namespace()
    yield kubectl
    await kubectl.ok("delete", "namespace", kubectl.namespace, "--wait=false")
