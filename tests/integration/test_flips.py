"""What runs turns bad, and good again: on a real control plane, with a real scanner and a real receiver.

Re-scans and inventories are two seconds apart. The made-up nodes report the digest that the simulated Anchore knows
each image by.
"""

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from shared import subjects
from tests.support.anchore import ADMIN, bundle, rule
from tests.support.api import Api, image_policy, only_in
from tests.support.kube import move_tag
from tests.support.road import WatchedRoad, audit, pod, until
from tests.support.webhooks import Receiver, receiving

INTERVAL = 2.0
"""Seconds between two scans of one image, and between two inventories."""

WITHIN = 10.0
"""Seconds a flip may take: one interval, the scan, and the writes of a busy machine."""

LOOK = 30.0
"""Seconds until a scanner looks which bundle is the active one."""

CVE = {"id": "CVE-2026-4711", "package": "openssl", "version": "1", "severity": "Critical"}


@dataclass
class Scene:
    """A road with short intervals, and who is notified by it."""

    road: WatchedRoad
    receiver: Receiver
    name: str = field(default_factory=lambda: f"flip-{secrets.token_hex(4)}")

    @property
    def image(self) -> str:
        return f"registry.example/bulk/{self.name}:1"

    async def serve(self) -> None:
        """Anchore and the nodes know the image by the same digest."""
        known = await self.road.tell_anchore("preload", reference=self.image)
        move_tag(self.road.plane, self.image, known["digest"])

    async def find(self, *vulnerabilities: dict[str, str]) -> None:
        """From now on Anchore knows these of the image."""
        await self.road.tell_anchore(
            "vulnerabilities", reference=self.image, vulnerabilities=list(vulnerabilities)
        )

    async def state(self, kube: Kubectl, prefix: str, state: str, seconds: float = WITHIN) -> dict[str, Any]:
        """The Audit, once it is in this state."""

        async def is_so() -> dict[str, Any] | None:
            found = await audit(kube, prefix)
            return found if found["status"]["state"] == state else None

        found: dict[str, Any] = await until(is_so, f"{prefix}… is {state}", seconds)
        return found

    async def inventory(self) -> None:
        """One that began after now is complete: the second that ends from now on."""
        sample = "moorgate_inventory_last_success_timestamp_seconds"
        for _ in range(2):
            before = await self.road.metric("audit_writer-0", sample)

            async def is_newer(before: float = before) -> bool:
                return await self.road.metric("audit_writer-0", sample) > before

            await until(is_newer, "another inventory", 60)

    async def told(self, namespace: str) -> list[dict[str, Any]]:
        """The flip events of the namespace, as they lie in the stream."""
        client = await nats.connect(**self.road.nats.options("operator"))
        try:
            stream = client.jetstream()
            info = await stream.stream_info(subjects.EVENTS, subjects_filter=subjects.FLIP_SUBJECTS)
            count = sum((info.state.subjects or {}).values())
            reader = await stream.subscribe(subjects.FLIP_SUBJECTS, ordered_consumer=True)
            found = [json.loads((await reader.next_msg(5)).data) for _ in range(count)]
        finally:
            await client.close()
        return [each for each in found if each["namespace"] == namespace]

    def notified(self, namespace: str) -> list[dict[str, Any]]:
        """What the receiver was told of the namespace."""
        return [each for each in self.posts if each["data"]["namespace"] == namespace]

    @property
    def posts(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.receiver.posts]

    async def until_notified(self, namespace: str, count: int) -> list[str]:
        async def are_there() -> bool:
            return len(self.notified(namespace)) >= count

        await until(are_there, f"{count} notifications")
        return [each["data"]["result"] for each in self.notified(namespace)]


@pytest.fixture
async def scene(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        notify = tmp_path / "notify.yaml"
        notify.write_text(f"targets: [{{name: tests, type: webhook, url: '{receiver.url}/flips'}}]\n")
        settings = {
            "MOORGATE_RESCAN_INTERVAL": f"{INTERVAL:g}s",
            "MOORGATE_INVENTORY_INTERVAL": f"{INTERVAL:g}s",
            "MOORGATE_FAIL_TTL": "1s",
            "MOORGATE_NOTIFY_FILE": str(notify),
        }
        road = WatchedRoad(plane=control_plane, folder=tmp_path, settings=settings)
        await stack.enter_async_context(road)
        yield Scene(road, receiver)


def deployment(name: str, image: str, release: str, replicas: int = 2) -> dict[str, Any]:
    labels = {"app": name, "release": release}
    spec = {"containers": [{"name": "main", "image": image}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


async def answer(road: WatchedRoad, namespace: str, image: str) -> int:
    """What a new Pod is answered."""
    async with road.api() as api:
        return (await api.create_pod(namespace, pod("new", image), dry_run=True)).status


async def test_a_new_cve_degrades_what_runs_and_its_correction_recovers_it(scene: Scene) -> None:
    kube = await scene.road.namespace()
    await scene.serve()
    for name in ("front", "back"):
        await kube.create(deployment(name, scene.image, release="shop"))
        await kube.wait("condition=Available", f"deployment/{name}")
        await scene.state(kube, f"replicaset-{name}", "admitted")

    await scene.inventory()
    await scene.find(CVE)
    degraded = await scene.state(kube, "replicaset-front", "degraded")
    await scene.state(kube, "replicaset-back", "degraded")
    assert degraded["spec"]["result"] == [f"Image failed policy check: {scene.image}"]
    assert degraded["metadata"]["labels"]["security.banzaicloud.com/state"] == "degraded"
    assert "CVE-2026-4711" in degraded["status"]["transitions"][0]["message"]
    assert await answer(scene.road, kube.namespace, scene.image) == 403
    [owner] = degraded["metadata"]["ownerReferences"]
    for target in ("deployment/front", f"replicaset/{owner['name']}"):
        shown = await kube.ok("describe", target)
        assert "ImageDegraded" in shown
        assert "CVE-2026-4711" in shown
    assert await scene.until_notified(kube.namespace, 1) == ["fail"]

    await scene.find()
    recovered = await scene.state(kube, "replicaset-front", "admitted")
    await scene.state(kube, "replicaset-back", "admitted")
    assert recovered["spec"]["images"][0]["verdict"] == "pass"
    assert await answer(scene.road, kube.namespace, scene.image) == 201
    assert "ImageRecovered" in await kube.ok("describe", "deployment/back")
    assert await scene.until_notified(kube.namespace, 2) == ["fail", "pass"]

    # Both Deployments are of one release: one event a flip.
    told = await scene.told(kube.namespace)
    assert [
        (
            each["result"],
            each["cause"],
            each["workloadsTotal"],
        )
        for each in told
    ] == [
        ("fail", "feed", 2),
        ("pass", "feed", 2),
    ]
    assert len({each["id"] for each in told}) == 2
    flips = [
        await scene.road.metric("audit_writer-0", f'moorgate_verdict_flips_total{{to="{to}"}}')
        for to in ("fail", "pass")
    ]
    assert flips == [1, 1]
    assert await scene.road.metric("audit_writer-0", 'moorgate_scan_requests_total{lane="rescan"}') >= 2


async def test_a_bundle_activated_behind_moorgates_back_turns_what_runs(scene: Scene) -> None:
    kube = await scene.road.namespace()
    await scene.serve()
    began = time.monotonic()
    await kube.create(deployment("web", scene.image, release="shop"))
    await kube.wait("condition=Available", "deployment/web")
    await scene.state(kube, "replicaset-web", "admitted")
    # Through the same parts: what a busy machine makes of the way in, it makes of the flip.
    way_in = time.monotonic() - began
    await _activate(scene.road, bundle(rule("always", "always"), name="deny-all"))
    await scene.state(kube, "replicaset-web", "degraded", seconds=LOOK + max(2 * WITHIN, 3 * way_in))
    [event] = await scene.told(kube.namespace)
    assert (event["cause"], event["result"]) == ("policy", "fail")
    assert await answer(scene.road, kube.namespace, scene.image) == 403


async def test_an_image_that_was_let_in_unchecked_is_completed(scene: Scene) -> None:
    kube = await scene.road.namespace(**{"test/flips": scene.name})
    slow = {"analysis_seconds": 5, "vulnerabilities": [CVE]}
    await scene.road.tell_anchore("push", reference=scene.image, content=slow)
    policy = image_policy(
        scene.name, namespaceSelector=only_in(test__flips=scene.name), onPending="allow", mode="enforce"
    )
    async with scene.road.api() as api:
        await _with_policy(api, policy)
        try:

            async def is_allowed() -> bool:
                return (await api.create_pod(kube.namespace, pod("early", scene.image))).status == 201

            await until(is_allowed, "it is let in while it is analysed")
            found = await audit(kube, "pod-early")
            assert found["metadata"]["labels"]["security.banzaicloud.com/complete"] == "false"
            found = await scene.state(kube, "pod-early", "degraded", seconds=40)
            assert found["metadata"]["labels"]["security.banzaicloud.com/complete"] == "true"
            assert found["spec"]["images"][0]["verdict"] == "fail"
            assert "ImageDegraded" in await kube.ok("describe", "pod/early")
        finally:
            await api.ok("DELETE", f"/apis/security.banzaicloud.com/v1alpha1/imagepolicies/{scene.name}")


async def test_what_ran_before_moorgate_is_found_scanned_listed_and_flips(
    scene: Scene, control_plane: ControlPlane
) -> None:
    kube = Kubectl(control_plane, scene.name)
    await kube.ok("create", "namespace", scene.name)  # no webhook looks there: nobody decides
    await scene.serve()
    try:
        await kube.create(deployment("old", scene.image, release="shop"))
        await kube.wait("condition=Available", "deployment/old")
        found = await audit(kube, "replicaset-old", seconds=90)
        assert found["status"]["state"] == "observed"
        await until(lambda: _verdict(kube, "pass"), "it is scanned and listed", WITHIN)
        await scene.find(CVE)
        await scene.state(kube, "replicaset-old", "degraded")
        assert await scene.until_notified(kube.namespace, 1) == ["fail"]
        await scene.find()
        await scene.state(kube, "replicaset-old", "observed")
    finally:
        await kube.ok("delete", "namespace", scene.name, "--wait=false")


async def _verdict(kube: Kubectl, verdict: str) -> bool:
    found = await audit(kube, "replicaset-old")
    return bool(found["spec"]["images"][0]["verdict"] == verdict)


async def _activate(road: WatchedRoad, content: dict[str, Any]) -> None:
    """Store the bundle and make it the active one."""
    headers = {"Authorization": aiohttp.encode_basic_auth(*ADMIN)}
    async with aiohttp.ClientSession(road.anchore_url, headers=headers) as session:
        async with session.post("/v1/policies", json=content) as stored:
            record = await stored.json()
            assert stored.status == 200, record
        url = f"/v1/policies/{record['policyId']}"
        async with session.put(url, params={"active": "true"}, json={**record, "active": True}) as active:
            assert active.status == 200, await active.text()


async def _with_policy(api: Api, policy: dict[str, Any]) -> None:
    path = "/apis/security.banzaicloud.com/v1alpha1/imagepolicies"
    await api.ok("POST", path, policy)

    async def is_accepted() -> bool:
        found = await api.ok("GET", f"{path}/{policy['metadata']['name']}")
        return bool(found.get("status", {}).get("conditions"))

    await until(is_accepted, "the policy is in force")
