"""What runs already and fails only now: let in for a while where it runs, refused elsewhere and afterwards.

A road with short lives: verdicts are fresh for a second, the inventory is taken every second. The made-up
nodes report the digest that the simulated Anchore knows the image by.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from tests.support.api import MERGE, POLICIES, Api, Reply, image_policy, only_in
from tests.support.kube import move_tag
from tests.support.road import WatchedRoad, audit, pod, until

GOOD = "busybox:1.36"
BAD = "registry.example/bad/debugger:1"
GRACE = "72h"
FINDING = {"id": "CVE-1", "package": "openssl", "version": "1", "severity": "Critical"}


@pytest.fixture(scope="module")
def hasty(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedRoad]:
    """Every verdict is old after a second."""
    settings = {
        "MOORGATE_TAG_TTL": "1s",
        "MOORGATE_FAIL_TTL": "1s",
        "MOORGATE_INVENTORY_INTERVAL": "1s",
    }
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        road = WatchedRoad(
            plane=control_plane, folder=tmp_path_factory.mktemp("incumbents"), settings=settings
        )
        runner.run(road.start())
        try:
            yield road
        finally:
            runner.run(road.stop())


@dataclass
class Site:
    """Namespaces under one policy with a grace, and an image that can begin to fail."""

    road: WatchedRoad
    api: Api
    name: str = field(default_factory=lambda: f"inc-{secrets.token_hex(4)}")
    namespaces: list[str] = field(default_factory=list)

    @property
    def image(self) -> str:
        return f"registry.example/multi/{self.name}:1"

    async def namespace(self) -> Kubectl:
        kube = await self.road.namespace(**{"test/incumbents": self.name})
        self.namespaces.append(kube.namespace)
        return kube

    async def serve_image(self, digest: str = "list_digest") -> None:
        """Anchore and the nodes know the image by the same digest: a node reports the list's, or the platform's."""
        known = await self.road.tell_anchore("preload", reference=self.image)
        move_tag(self.road.plane, self.image, known[digest])

    async def run(self, kube: Kubectl, name: str = "running") -> None:
        """A Pod that a node reports as running."""
        await kube.create(pod(name, self.image))
        await kube.wait("condition=Ready", f"pod/{name}")

    async def begin_to_fail(self) -> None:
        await self.road.tell_anchore("vulnerabilities", reference=self.image, vulnerabilities=[FINDING])

    async def tries(self, namespace: str, name: str = "new", *, dry_run: bool = True) -> Reply:
        return await self.api.create_pod(namespace, pod(name, self.image), dry_run=dry_run)

    async def until_answered(self, namespace: str, status: int, words: str = "") -> Reply:
        async def is_so() -> Reply | None:
            reply = await self.tries(namespace)
            said = reply.message + " ".join(reply.warnings)
            return reply if reply.status == status and words in said else None

        found: Reply = await until(is_so, f"answered with {status} {words}")
        return found

    async def set_grace(self, grace: str) -> None:
        await self.api.ok(
            "PATCH", f"{POLICIES}/{self.name}", {"spec": {"incumbentGrace": grace}}, content_type=MERGE
        )


@pytest.fixture
async def site(hasty: WatchedRoad) -> AsyncIterator[Site]:
    async with hasty.api() as api:
        site = Site(hasty, api)
        selector = only_in(test__incumbents=site.name)
        policy = image_policy(site.name, namespaceSelector=selector, incumbentGrace=GRACE)
        await api.ok("POST", POLICIES, policy)
        try:
            yield site
        finally:
            await api.ok("DELETE", f"{POLICIES}/{site.name}")
            for name in site.namespaces:
                await api.ok("DELETE", f"/api/v1/namespaces/{name}")


@pytest.mark.parametrize("digest", ["list_digest", "digest"])
async def test_what_runs_and_fails_now_is_let_in_here_and_nowhere_else(site: Site, digest: str) -> None:
    await site.serve_image(digest)
    here, elsewhere = await site.namespace(), await site.namespace()
    await site.run(here)
    await site.begin_to_fail()
    refused = await site.until_answered(elsewhere.namespace, 403)
    assert "fails policy bundle" in refused.message
    reply = await site.until_answered(here.namespace, 201, "runs here already")
    assert "is let in until" in reply.warnings[0]
    await site.tries(here.namespace, "second", dry_run=False)
    found = await audit(here, "pod-second")
    [image] = found["spec"]["images"]
    assert (found["spec"]["action"], image["verdict"]) == ("allowed", "fail")
    grace = datetime.fromisoformat(image["graceUntil"]) - datetime.fromisoformat(image["evaluatedAt"])
    assert 71 < grace.total_seconds() / 3600 <= 72


async def test_after_the_grace_it_is_refused(site: Site) -> None:
    await site.serve_image()
    here = await site.namespace()
    await site.run(here)
    await site.begin_to_fail()
    await site.until_answered(here.namespace, 201, "runs here already")
    await site.set_grace("1s")  # counted from when it began to fail, which is a while ago
    await site.until_answered(here.namespace, 403, "fails policy bundle")
    await site.set_grace("")
    await site.until_answered(here.namespace, 403, "fails policy bundle")


async def test_a_pod_that_no_node_has_reported_does_not_count(site: Site) -> None:
    await site.serve_image()
    here = await site.namespace()
    waiting = pod("waiting", site.image, schedulerName="nobody")
    await here.create(waiting)
    other = "registry.example/multi/reported:1"
    await site.road.tell_anchore("preload", reference=other)
    await here.create(pod("other", other))
    await here.wait("condition=Ready", "pod/other")
    before = _inventories(site)

    async def is_taken_twice() -> bool:
        return _inventories(site) >= before + 2

    await until(is_taken_twice, "two inventories since")
    await site.begin_to_fail()
    await site.until_answered(here.namespace, 403, "fails policy bundle")


async def test_a_drained_node_breaks_nothing(site: Site) -> None:
    await site.serve_image()
    here = await site.namespace()
    await here.ok("create", "deployment", "web", f"--image={site.image}")
    await here.wait("condition=Available", "deployment/web")
    await site.begin_to_fail()
    await site.until_answered(here.namespace, 201, "runs here already")
    [old] = await here.get("pods")
    await here.ok("delete", "pod", old["metadata"]["name"], "--wait=false")

    async def is_replaced() -> bool:
        names = [each["metadata"]["name"] for each in await here.get("pods") if _is_ready(each)]
        return bool(names) and old["metadata"]["name"] not in names

    await until(is_replaced, "the Deployment has a Pod again")


async def test_a_good_debugger_is_let_into_a_pod_whose_image_has_begun_to_fail(site: Site) -> None:
    await site.serve_image()
    here = await site.namespace()
    await site.run(here)
    await site.set_grace("")
    await site.begin_to_fail()
    await site.until_answered(here.namespace, 403, "fails policy bundle")
    await here.ok("debug", "running", f"--image={GOOD}", "--container=good")
    refused = await here.run("debug", "running", f"--image={BAD}", "--container=bad")
    assert refused.code == 1
    assert "(ephemeral bad) fails policy bundle" in refused.stderr
    containers = (await here.get("pod/running"))["spec"]["ephemeralContainers"]
    assert [each["name"] for each in containers] == ["good"]


def _inventories(site: Site) -> int:
    log = site.road.services.processes["audit_writer-0"].log
    return sum('"event":"inventory"' in line.replace(" ", "") for line in log.read_text().splitlines())


def _is_ready(found: dict[str, Any]) -> bool:
    conditions = found["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
