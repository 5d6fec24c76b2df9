"""ImagePolicies on the real API server: which rule an image is judged by, how soon, and what they say of themselves."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from deploy.dev.kubectl import Kubectl
from tests.support.anchore import ADMIN, bundle, rule
from tests.support.api import MERGE, POLICIES, Api, Reply, image_policy, only_in
from tests.support.road import WatchedRoad, audit, pod, until

GOOD = "nginx:1.25"
BAD = "registry.example/bad/policies:1"
DENY_ALL = "deny-all"

AT_ONCE = 1.0
"""Seconds within which a change must count."""


@dataclass
class Site:
    """A namespace and its policies."""

    road: WatchedRoad
    api: Api
    name: str = field(default_factory=lambda: f"pol-{secrets.token_hex(4)}")
    made: list[str] = field(default_factory=list)

    @property
    def kube(self) -> Kubectl:
        return Kubectl(self.road.plane, self.name)

    @property
    def here(self) -> dict[str, Any]:
        return only_in(test__policies=self.name)

    async def add(self, short: str, **spec: Any) -> str:
        """A policy for this namespace only, unless `spec` selects otherwise."""
        name = f"{self.name}-{short}"
        self.made.append(name)
        await self.api.ok("POST", POLICIES, image_policy(name, **{"namespaceSelector": self.here, **spec}))
        return name

    async def change(self, name: str, **spec: Any) -> None:
        await self.api.ok("PATCH", f"{POLICIES}/{name}", {"spec": spec}, content_type=MERGE)

    async def accepted(self, name: str, status: str = "True") -> dict[str, Any]:
        """The policy, once its condition is of this status and speaks of the spec as it is."""

        async def find() -> dict[str, Any] | None:
            found = await self.api.ok("GET", f"{POLICIES}/{name}")
            now = found["metadata"]["generation"]
            wanted = (status, now)
            [condition] = found.get("status", {}).get("conditions") or [{}]
            given = condition.get("status"), condition.get("observedGeneration")
            return found if given == wanted else None

        found: dict[str, Any] = await until(find, f"{name} is accepted: {status}", seconds=5)
        return found

    async def tries(self, *images: str) -> Reply:
        """What a new Pod of these images is answered."""
        manifest = pod("new", images[0])
        manifest["spec"]["containers"] = [
            {"name": f"c{number}", "image": image} for number, image in enumerate(images)
        ]
        return await self.api.create_pod(self.name, manifest, dry_run=True)

    async def soon(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """It is so within the second that is promised."""
        started = time.monotonic()
        await until(is_so, "the change counts", seconds=5)
        assert time.monotonic() - started < AT_ONCE

    async def until_status(self, status: int, image: str = BAD) -> None:
        async def is_so() -> bool:
            return (await self.tries(image)).status == status

        await until(is_so, f"{image} is answered with {status}")


@pytest.fixture
async def site(road: WatchedRoad) -> AsyncIterator[Site]:
    async with road.api() as api:
        site = Site(road, api)
        await road.namespace(site.name, **{"test/policies": site.name})
        try:
            yield site
        finally:
            await asyncio.gather(*(api.send("DELETE", f"{POLICIES}/{name}") for name in site.made))
            await api.ok("DELETE", f"/api/v1/namespaces/{site.name}")


@pytest.fixture(scope="module")
def deny_all(road: WatchedRoad) -> str:
    """A second bundle, which refuses everything; the scanner reads bundles at its start."""

    async def upload() -> None:
        content = bundle(rule("always", "always"), name=DENY_ALL)
        headers = {"Authorization": aiohttp.encode_basic_auth(*ADMIN)}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(f"{road.anchore_url}/v1/policies", json=content) as answer,
        ):
            assert answer.status == 200, await answer.text()
        await road.services.processes["scanner-0"].restart()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(upload())
    return DENY_ALL


async def test_for_each_image_the_first_match_by_priority_then_by_name(site: Site) -> None:
    bad = "registry.example/bad"
    last = await site.add("a", priority=-1, mode="enforce")
    second = await site.add("c", priority=5, mode="warn")
    named_first = await site.add("b", priority=5, mode="audit", images=[f"{bad}/first*"])
    highest = await site.add("z", priority=10, mode="off", images=["*/bad/top:*"])
    for name in (last, second, named_first, highest):
        await site.accepted(name)
    images = [f"{bad}/top:1", f"{bad}/first:1", f"{bad}/other:1"]
    manifest = pod("three", images[0])
    manifest["spec"]["containers"] += [
        {"name": f"c{number}", "image": image} for number, image in enumerate(images[1:])
    ]
    await site.kube.create(manifest)
    found = await audit(site.kube, "pod-three")
    assert [each["policy"] for each in found["spec"]["images"]] == [highest, named_first, second]

    async def is_warned() -> bool:
        return bool((await site.tries(*images)).warnings)

    await until(is_warned, "the third is known to fail")
    [warning] = (await site.tries(*images)).warnings
    assert f"image {images[2]} (container c2) fails policy bundle" in warning


async def test_under_two_policies_the_worst_counts(site: Site) -> None:
    lenient, strict = "registry.example/bad/lenient:1", "registry.example/bad/strict:1"
    await site.accepted(await site.add("lenient", priority=1, mode="warn", images=["*/lenient:1"]))
    await site.until_status(403, strict)
    reply = await site.tries(lenient, strict)
    assert reply.status == 403
    assert f"image {strict} (container c1) fails" in reply.message
    assert lenient not in reply.message

    async def is_warned() -> bool:
        return any(lenient in each for each in (await site.tries(lenient, GOOD)).warnings)

    await until(is_warned, "one that passes beside one that is warned of")
    assert (await site.tries(lenient, GOOD)).status == 201


async def test_a_failing_image_beats_one_without_a_verdict(site: Site) -> None:
    broken = "registry.example/broken/policies:1"
    await site.until_status(403)
    await site.until_status(503, broken)
    reply = await site.tries(broken, BAD)
    assert reply.status == 403
    assert BAD in reply.message
    await site.accepted(await site.add("allow", images=["*/broken/*"], onError="allow"))
    reply = await site.tries(broken, GOOD)
    assert (reply.status, len(reply.warnings)) == (201, 1)
    assert "analysis_failed" in reply.warnings[0]


async def test_a_policys_bundle_is_the_one_that_is_checked(site: Site, deny_all: str) -> None:
    await site.until_status(201, GOOD)
    name = await site.add("strict", policyBundle=deny_all, images=["docker.io/library/nginx:*"])
    await site.accepted(name)
    await site.until_status(403, GOOD)
    reply = await site.tries(GOOD)
    assert f"fails policy bundle {deny_all}: always/always" in reply.message
    other = await site.road.namespace()
    reply = await site.api.create_pod(other.namespace, pod("new", GOOD), dry_run=True)
    assert reply.status == 201, "the verdict of one bundle counted for another"
    await other.ok("delete", "namespace", other.namespace, "--wait=false")
    await site.api.create_pod(site.name, pod("recorded", GOOD))
    [image] = (await audit(site.kube, "pod-recorded"))["spec"]["images"]
    assert (image["bundle"], image["policy"], image["tenant"]) == (deny_all, name, "default")


async def test_a_new_changed_or_removed_policy_counts_within_a_second(site: Site) -> None:
    await site.until_status(403)

    async def is_let_in() -> bool:
        return (await site.tries(BAD)).status == 201

    async def is_refused() -> bool:
        return (await site.tries(BAD)).status == 403

    name = await site.add("open", mode="audit")
    await site.soon(is_let_in)
    await site.change(name, mode="enforce")
    await site.soon(is_refused)
    await site.change(name, mode="off")
    await site.soon(is_let_in)
    await site.api.ok("DELETE", f"{POLICIES}/{name}")
    await site.soon(is_refused)


async def test_a_namespaces_labels_count_as_they_are_now(site: Site) -> None:
    await site.until_status(403)
    expressions = [
        {"key": "test/policies", "operator": "In", "values": [site.name]},
        {"key": "tier", "operator": "NotIn", "values": ["prod"]},
        {"key": "frozen", "operator": "DoesNotExist"},
        {"key": "team", "operator": "Exists"},
    ]
    await site.accepted(
        await site.add("open", mode="off", namespaceSelector={"matchExpressions": expressions})
    )
    path = f"/api/v1/namespaces/{site.name}"
    for labels, status in [
        ({}, 403),
        ({"team": "a"}, 201),
        ({"tier": "prod"}, 403),
        ({"tier": "dev"}, 201),
        ({"frozen": "yes"}, 403),
    ]:
        await site.api.ok("PATCH", path, {"metadata": {"labels": labels}}, content_type=MERGE)

        async def is_so(status: int = status) -> bool:
            return (await site.tries(BAD)).status == status

        await site.soon(is_so)


@pytest.mark.parametrize(
    ("spec", "reason", "names"),
    [
        ({"images": ["registry.example/[bad/*"]}, "BadImageGlob", "registry.example/[bad/*"),
        ({"tenant": "nobody"}, "UnknownTenant", "nobody"),
        ({"policyBundle": "no-such"}, "UnknownPolicyBundle", "no-such"),
        (
            {"namespaceSelector": {"matchExpressions": [{"key": "tier", "operator": "Near"}]}},
            "BadNamespaceSelector",
            "Near",
        ),
        ({"incumbentGrace": "3 days"}, "BadIncumbentGrace", "3 days"),
    ],
    ids=["glob", "tenant", "bundle", "selector", "grace"],
)
async def test_a_broken_policy_keeps_its_place_and_says_why(
    site: Site, spec: dict[str, Any], reason: str, names: str
) -> None:
    await site.until_status(403)
    await site.add("below", priority=1, mode="off")
    await site.until_status(201)
    broken = await site.add("broken", priority=2, mode="off", **spec)
    found = await site.accepted(broken, "False")
    [condition] = found["status"]["conditions"]
    assert condition["reason"] == reason
    assert names in condition["message"]
    assert "decided by the process defaults" in condition["message"]
    assert (await site.tries(BAD)).status == 403, "a broken policy let a Pod in"
    [_, row] = (await site.kube.ok("get", "imgpol", broken)).splitlines()
    assert row.split()[-3:-1] == ["False", reason]


async def test_conditions_are_written_once_and_again_when_the_policy_is_mended(site: Site) -> None:
    name = await site.add("mended", tenant="nobody", mode="off")
    broken = await site.accepted(name, "False")
    sound = await site.accepted(await site.add("sound"))
    later = await site.add("later", priority=3)
    await site.accepted(later)  # by now all conditions have been looked at again
    for before in (broken, sound):
        now = await site.api.ok("GET", f"{POLICIES}/{before['metadata']['name']}")
        assert now["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    await site.change(name, tenant="default")
    mended = await site.accepted(name)
    [condition] = mended["status"]["conditions"]
    assert condition["observedGeneration"] == mended["metadata"]["generation"] == 2
    assert condition["reason"] == "Accepted"
    assert condition["lastTransitionTime"] >= broken["status"]["conditions"][0]["lastTransitionTime"]
    [manager] = [each for each in mended["metadata"]["managedFields"] if each.get("subresource") == "status"]
    assert manager["manager"] == "moorgate-gateway"


async def test_a_policy_explains_itself(site: Site) -> None:
    text = " ".join((await site.kube.ok("explain", "imgpol.spec.onPending")).split())
    assert "retry puts the Pod off" in text
    assert "ENUM: retry allow deny" in text
    text = await site.kube.ok("explain", "imagepolicies.spec")
    for name in ("priority", "namespaceSelector", "images", "mode", "policyBundle", "incumbentGrace"):
        assert f"  {name}\t" in text


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"mode": "block"}, 'spec.mode: Unsupported value: "block": supported values: "enforce"'),
        ({"onError": "retry"}, 'spec.onError: Unsupported value: "retry": supported values: "deny", "allow"'),
        ({"tenant": "Finance & Co"}, "spec.tenant: Invalid value"),
        ({"priority": "high"}, 'spec.priority: Invalid value: "string"'),
        ({"images": "nginx"}, 'spec.images: Invalid value: "string"'),
        ({"onpending": "allow"}, 'unknown field "spec.onpending"'),
    ],
    ids=["mode", "onError", "tenant", "priority", "images", "unknown-field"],
)
async def test_the_api_server_refuses_what_makes_no_sense(
    site: Site, spec: dict[str, Any], message: str
) -> None:
    answer = await site.kube.run("create", "-f", "-", stdin=image_policy(f"{site.name}-odd", **spec))
    assert answer.code == 1
    assert message in answer.stderr
