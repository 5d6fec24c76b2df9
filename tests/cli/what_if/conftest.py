"""What runs in a namespace of the test's own, and an Anchore of its own, whose records it can look at.

The command asks no service of Moorgate's, so none runs here: the webhook that is registered for the namespace leads nowhere.
"""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.controlplane import ControlPlane
from tests.support.anchore import Simulator, anchore
from tests.support.command_line import Answer, CommandLine
from tests.support.kube import Kubectl, move_tag

CHECKED = "reject_critical"
"""What is in force in the test's Anchore."""

STARTED_WITHIN = 90.0
"""Seconds until a run has its candidate in Anchore, on a machine that has other work."""

BUNDLES = Path(__file__).parents[3] / "services" / "cli" / "bundles"


def predefined(name: str) -> dict[str, Any]:
    content = json.loads((BUNDLES / f"{name}.json").read_text())
    assert isinstance(content, dict)
    return content


@dataclass
class Stage:
    """A namespace in which something runs, and the Anchore that knows it."""

    simulator: Simulator
    kube: Kubectl
    plane: ControlPlane
    moorgate: CommandLine

    @property
    def space(self) -> Any:
        return self.simulator.engine.directory.space("admin")

    def records(self) -> dict[str, Any]:
        """All that a run must leave as it was; what the engine computes again is no record."""
        space = self.space
        kept = (
            space.images,
            space.tagged,
            space.policies,
            space.subscriptions,
            space.registries,
            space.events,
        )
        history = [(key, each.last) for key, each in space.history.items()]
        return copy.deepcopy(
            {"space": kept, "history": history, "outbox": vars(self.simulator.engine.outbox)}
        )

    def candidates(self) -> list[str]:
        """What a run has in Anchore now."""
        return [each for each in self.space.policies if each.startswith("moorgate-what-if-")]

    def add(self, name: str, *, active: bool = False) -> None:
        """One of the five bundles, as an operator would have uploaded it."""
        engine = self.simulator.engine
        former = self.space.active_policy()
        record = type(former)(
            account="admin",
            bundle=predefined(name),
            active=False,
            created=engine.clock.now(),
            updated=engine.clock.now(),
        )
        self.space.keep_policy(record)
        if active:
            former.active, record.active = False, True

    async def runs(self, **releases: Iterable[str]) -> None:
        """A Pod of these images for each release; Anchore knows them."""
        for image in {image for images in releases.values() for image in images}:
            self.serves(image, self.simulator.preload(image).digest)
        await self.starts(**releases)

    def serves(self, image: str, digest: str) -> None:
        """What kubelets pull for it from now on."""
        move_tag(self.plane, image, digest)

    async def starts(self, **releases: Iterable[str]) -> None:
        """The same, whatever Anchore knows of them."""
        pods = [_pod(release, images) for release, images in releases.items()]
        await self.kube.ok("create", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": pods})
        await self.kube.wait("condition=Ready", "pods", "--all", seconds=90)

    async def watch_over(self, namespace: str) -> None:
        """That is where the webhook asks about Pods."""
        selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        await self.kube.apply_text(json.dumps(_registration(self.registered, selector)))

    @property
    def registered(self) -> str:
        return f"what-if-{self.kube.namespace}"

    async def what_if(self, bundle: str | Path, *more: str) -> Answer:
        """Of the namespace."""
        return await self.moorgate(*self.asked(bundle), *more)

    def asked(self, bundle: str | Path) -> tuple[str, ...]:
        path = bundle if isinstance(bundle, Path) else BUNDLES / f"{bundle}.json"
        return "what-if", "--bundle", str(path), "-n", self.kube.namespace

    @contextlib.asynccontextmanager
    async def under_way(self, bundle: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
        """A run that has its candidate in Anchore and waits for a check, until the context ends."""
        self.simulator.set_latency(3600, "check")
        before = len(self.candidates())
        async with self.moorgate.started(*self.asked(bundle)) as child:
            async with asyncio.timeout(STARTED_WITHIN):
                while len(self.candidates()) == before or not self.simulator.counters.concurrent:
                    await asyncio.sleep(0.05)
            yield child


def _pod(release: str, images: Iterable[str]) -> dict[str, Any]:
    metadata = {"name": f"pod-{release}", "labels": {"release": release}}
    containers = [{"name": f"c{number}", "image": each} for number, each in enumerate(images)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


def _registration(name: str, selector: dict[str, Any]) -> dict[str, Any]:
    webhook = {
        "name": "pods.what-if.test",
        "clientConfig": {"url": "https://127.0.0.1:9/imagecheck"},
        "failurePolicy": "Ignore",
        "timeoutSeconds": 1,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": selector,
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
        ],
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }


@pytest.fixture(params=["v1", "v2"])
def api(request: pytest.FixtureRequest) -> str:
    """Both APIs, where a test asks for it."""
    return str(request.param)


@pytest.fixture
async def stage(control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[Stage]:
    async with anchore() as simulator:
        moorgate = CommandLine(
            {
                "KUBECONFIG": str(control_plane.kubeconfig()),
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                "MOORGATE_ANCHORE_URL": simulator.url,
                "MOORGATE_ANCHORE_PASSWORD": "foobar",
                "MOORGATE_ANCHORE_API": "v1",
            }
        )
        found = Stage(simulator, kubectl, control_plane, moorgate)
        found.add(CHECKED, active=True)
        await found.watch_over(kubectl.namespace)
        yield found
        await kubectl.ok("delete", "validatingwebhookconfiguration", found.registered)
