"""What was let in before its verdict was known, between two inventories ten minutes apart: a real control plane and scanner."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from shared.crds import COMPLETE_LABEL
from tests.support.anchore import ADMIN
from tests.support.api import image_policy, only_in
from tests.support.road import WatchedRoad, audit, pod, until

pytestmark = pytest.mark.cluster

POLICIES = "/apis/security.banzaicloud.com/v1alpha1/imagepolicies"
CVE = {"id": "CVE-2026-4711", "package": "openssl", "version": "1", "severity": "Critical"}


@pytest.fixture
async def road(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[WatchedRoad]:
    async with WatchedRoad(plane=control_plane, folder=tmp_path) as found:
        await until(lambda: _has_taken_inventory(found), "the first inventory", 60)
        yield found


@pytest.fixture
async def kube(road: WatchedRoad) -> AsyncIterator[Kubectl]:
    """A namespace in which everything is let in, as where nothing is enforced yet."""
    async with _judged(road, mode="audit") as found:
        yield found


@asynccontextmanager
async def _judged(road: WatchedRoad, **changes: str) -> AsyncIterator[Kubectl]:
    name = f"late-{secrets.token_hex(4)}"
    kube = await road.namespace(**{"test/late": name})
    policy = image_policy(name, namespaceSelector=only_in(test__late=name), **changes)
    async with road.api() as api:
        await api.ok("POST", POLICIES, policy)
        try:
            yield kube
        finally:
            await api.ok("DELETE", f"{POLICIES}/{name}")


async def test_the_verdict_of_an_image_that_was_analysed_meanwhile_lands_in_the_audit(
    road: WatchedRoad, kube: Kubectl
) -> None:
    image = f"registry.example/bulk/{secrets.token_hex(4)}:1"
    await road.tell_anchore("push", reference=image, content={"analysis_seconds": 3})
    await _create(road, kube, "early", image)
    found = await _audit(kube, "early")
    assert (found["spec"]["images"][0]["verdict"], _is_complete(found)) == ("pending", False)
    found = await _completed(kube, "early")
    assert found["spec"]["images"][0]["verdict"] == "pass"


async def test_so_does_one_that_was_decided_before_any_bundle_was_active(
    road: WatchedRoad, kube: Kubectl
) -> None:
    """As while an installation's first steps are under way: the bundle is stored and activated last."""
    policies = _Policies(road)
    record = await policies.none_is_active()

    async def is_known_to_have_none() -> bool:
        name = f"probe-{secrets.token_hex(4)}"
        await _create(road, kube, name, "registry.example/bulk/probe:1")
        found = await _audit(kube, name)
        return bool(found["spec"]["images"][0].get("error", "").startswith("bundle_unknown"))

    await until(is_known_to_have_none, "no bundle is active", 150)  # looked at every minute
    await _create(road, kube, "early", f"registry.example/bulk/{secrets.token_hex(4)}:1")
    assert not _is_complete(await _audit(kube, "early"))
    await policies.activate(record)
    found = await _completed(kube, "early", seconds=40)
    [judged] = found["spec"]["images"]
    assert (judged["verdict"], judged["bundle"], judged.get("error", "")) == ("pass", record["policyId"], "")


@pytest.mark.long
async def test_an_enforced_image_that_fails_after_all_is_told_of_within_minutes(road: WatchedRoad) -> None:
    """It began to run after the inventory: the next one is taken early, so that its fail is a flip and not a mere record."""
    image = f"registry.example/bulk/{secrets.token_hex(4)}:1"
    slow = {"analysis_seconds": 3, "vulnerabilities": [CVE]}
    await road.tell_anchore("push", reference=image, content=slow)
    async with _judged(road, mode="enforce", onPending="allow") as kube:

        async def is_let_in() -> bool:
            async with road.api() as api:
                return (await api.create_pod(kube.namespace, pod("early", image))).status == 201

        await until(is_let_in, "it is let in while it is analysed")
        found = await _completed(kube, "early", seconds=100)
        assert (found["spec"]["images"][0]["verdict"], found["status"]["state"]) == ("fail", "degraded")
        assert "ImageDegraded" in await kube.ok("describe", "pod/early")


class _Policies:
    """The bundles of the road's Anchore."""

    def __init__(self, road: WatchedRoad) -> None:
        self._url = road.anchore_url

    def _open(self) -> aiohttp.ClientSession:
        headers = {"Authorization": aiohttp.encode_basic_auth(*ADMIN)}
        return aiohttp.ClientSession(self._url, headers=headers)

    async def none_is_active(self) -> dict[str, Any]:
        """Store the active one again, which leaves none active; gives its record."""
        async with self._open() as session:
            async with session.get("/v1/policies", params={"detail": "true"}) as answer:
                [record] = [each for each in await answer.json() if each["active"]]
            async with session.post("/v1/policies", json=record["policybundle"]) as stored:
                found: dict[str, Any] = await stored.json()
                assert not found["active"]
                return found

    async def activate(self, record: dict[str, Any]) -> None:
        url = f"/v1/policies/{record['policyId']}"
        body = {**record, "active": True}
        async with self._open() as session, session.put(url, params={"active": "true"}, json=body) as answer:
            assert answer.status == 200, await answer.text()


async def _has_taken_inventory(road: WatchedRoad) -> bool:
    return await road.metric("audit_writer-0", "moorgate_inventory_last_success_timestamp_seconds") > 0


async def _create(road: WatchedRoad, kube: Kubectl, name: str, image: str) -> None:
    async with road.api() as api:
        reply = await api.create_pod(kube.namespace, pod(name, image))
        assert reply.status == 201, reply.body


async def _audit(kube: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = await until(lambda: audit(kube, f"pod-{name}"), f"the Audit of {name}")
    return found


async def _completed(kube: Kubectl, name: str, seconds: float = 20) -> dict[str, Any]:
    async def is_so() -> dict[str, Any] | None:
        found = await _audit(kube, name)
        return found if _is_complete(found) else None

    found: dict[str, Any] = await until(is_so, f"the Audit of {name} is complete", seconds)
    return found


def _is_complete(found: dict[str, Any]) -> bool:
    return bool(found["metadata"]["labels"][COMPLETE_LABEL] == "true")
