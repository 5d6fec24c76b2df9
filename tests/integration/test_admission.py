"""Admissions through the real API server: let in, refused, put off, whitelisted, and caught at every door."""

import asyncio
import ssl
import time

import aiohttp
import pytest

from deploy.dev.kubectl import Kubectl
from tests.support.road import WatchedRoad, audit, pod, until

GOOD = "nginx:1.25"


async def test_an_image_that_passes_is_admitted_and_recorded(kube: Kubectl) -> None:
    await kube.create(pod("web", GOOD))
    found = await audit(kube, "pod-web")
    assert found["spec"]["action"] == "allowed"
    assert found["spec"]["result"] == [f"Image passed policy check: {GOOD}"]
    assert found["spec"]["image"] == [GOOD]
    assert found["spec"]["images"][0]["digest"].startswith("sha256:")
    assert found["metadata"]["labels"]["fakerelease"] == "true"


async def test_a_refusal_names_image_gate_trigger_bundle_and_the_next_step(kube: Kubectl) -> None:
    answer = await kube.run("run", "shop", "--image=registry.example/bad/shop:1")
    assert answer.code == 1
    assert "Forbidden" in answer.stderr
    for part in (
        "registry.example/bad/shop:1",
        "vulnerabilities/package",
        "CVE-2026-90030",
        "2c53a13c-1765-11e8-82ef-23527761d060",
        "ask for a WhiteListItem",
    ):
        assert part in answer.stderr
    found = await audit(kube, "pod-shop")
    assert found["spec"]["action"] == "reject"
    assert found["spec"]["result"] == ["Image failed policy check: registry.example/bad/shop:1"]
    assert found["status"]["state"] == "rejected"


async def test_a_slow_image_is_put_off_and_then_admitted_by_itself(road: WatchedRoad, kube: Kubectl) -> None:
    image = "registry.example/slow/once:1"
    await road.tell_anchore("analysis", reference=image, seconds=6)
    before = await road.metric("gateway-0", _requests("deferred"))
    started = time.monotonic()
    await kube.create(pod("report", image))
    assert time.monotonic() - started >= 6
    assert await road.metric("gateway-0", _requests("deferred")) > before
    assert (await audit(kube, "pod-report"))["spec"]["action"] == "allowed"


async def test_a_deployment_of_a_slow_image_gets_its_pod_by_itself(road: WatchedRoad, kube: Kubectl) -> None:
    image = "registry.example/slow/deployed:1"
    await road.tell_anchore("analysis", reference=image, seconds=5)
    await kube.ok("create", "deployment", "slow", f"--image={image}")
    await kube.wait("condition=Available", "deployment/slow", seconds=30)


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        (
            pod("door", GOOD, initContainers=[{"name": "init", "image": "registry.example/bad/init:1"}]),
            "init init",
        ),
        (
            pod(
                "door",
                GOOD,
                volumes=[{"name": "data", "image": {"reference": "registry.example/bad/volume:1"}}],
            ),
            "volume data",
        ),
        (
            pod(
                "door",
                GOOD,
                initContainers=[
                    {"name": "sidecar", "image": "registry.example/bad/side:1", "restartPolicy": "Always"}
                ],
            ),
            "init sidecar",
        ),
    ],
    ids=["init", "image-volume", "sidecar"],
)
async def test_a_bad_image_is_caught_wherever_it_stands(
    kube: Kubectl, manifest: dict[str, object], what: str
) -> None:
    answer = await kube.run("create", "-f", "-", stdin=manifest)
    assert answer.code == 1
    assert f"({what}) fails policy bundle" in answer.stderr


async def test_a_bad_ephemeral_container_is_caught_and_a_good_one_let_in(kube: Kubectl) -> None:
    await kube.create(pod("web", GOOD))
    bad = await kube.run("debug", "web", "--image=registry.example/bad/debug:1", "--container=bad")
    assert bad.code == 1
    assert "(ephemeral bad) fails policy bundle" in bad.stderr
    await kube.ok("debug", "web", "--image=busybox:1.36", "--container=good")
    containers = (await kube.get("pod/web"))["spec"]["ephemeralContainers"]
    assert [each["name"] for each in containers] == ["good"]


async def test_a_changed_image_of_a_running_pod_is_judged(kube: Kubectl) -> None:
    await kube.create(pod("web", GOOD))
    answer = await kube.run("set", "image", "pod/web", "main=registry.example/bad/swap:1")
    assert answer.code == 1
    assert "fails policy bundle" in answer.stderr
    await kube.ok("label", "pod/web", "touched=yes")


async def test_a_dry_run_is_answered_and_leaves_no_audit(kube: Kubectl) -> None:
    answer = await kube.run("run", "dry", "--image=registry.example/bad/dry:1", "--dry-run=server")
    assert "fails policy bundle" in answer.stderr
    await kube.ok("run", "dry2", f"--image={GOOD}", "--dry-run=server")
    await kube.create(pod("real", GOOD))
    await audit(kube, "pod-real")  # later than the others, so theirs would be there by now
    assert [each["metadata"]["name"] for each in await kube.get("audits")] == ["pod-real"]


async def test_an_audit_is_owned_by_the_controller_and_collected_with_it(kube: Kubectl) -> None:
    await kube.ok("create", "deployment", "web", f"--image={GOOD}", "--replicas=3")

    async def owner() -> object:
        found = await audit(kube, "replicaset-web-")
        return found["metadata"].get("ownerReferences")

    references = await until(owner, "the Audit has its owner")
    assert [(each["kind"], each.get("blockOwnerDeletion", False)) for each in references] == [
        ("ReplicaSet", False)
    ]
    await kube.ok("delete", "deployment", "web")

    async def is_gone() -> bool:
        return not await kube.get("audits")

    await until(is_gone, "the garbage collector has removed the Audit")


async def test_a_workload_is_warned_about_at_once_and_never_refused(kube: Kubectl) -> None:
    image = "registry.example/bad/known:1"
    assert (await kube.run("run", "known", f"--image={image}")).code == 1
    answer = await kube.run("create", "deployment", "known", f"--image={image}")
    assert answer.code == 0
    assert "Warning: moorgate: Pods of this Deployment would be refused" in answer.stderr


async def test_seeing_a_workload_asks_for_its_images(road: WatchedRoad, kube: Kubectl) -> None:
    image = "registry.example/bulk/prefetched:1"
    await road.tell_anchore("preload", reference=image)
    await kube.ok("create", "deployment", "later", f"--image={image}", "--replicas=0")

    async def is_scanned() -> bool:
        return await road.calls("check", image) == 1

    await until(is_scanned, "the image is scanned before there is a Pod")


async def test_100_pods_of_one_unknown_image_cost_one_scan(road: WatchedRoad, kube: Kubectl) -> None:
    image = "registry.example/bulk/hundred:1"
    await road.tell_anchore("preload", reference=image)
    items = [pod(f"p{number}", image) for number in range(100)]
    halves = [{"apiVersion": "v1", "kind": "List", "items": items[start::4]} for start in range(4)]
    await asyncio.gather(*(kube.create(half) for half in halves))
    assert len(await kube.get("pods")) == 100
    assert await road.calls("image_add", image) == 1
    assert await road.calls("check", image) == 1


async def test_the_gateway_answers_after_garbage(road: WatchedRoad, kube: Kubectl) -> None:
    before = await road.metric("gateway-0", 'moorgate_admission_bad_requests_total{code="400"}')
    tls = ssl.create_default_context(cafile=road.services.ca)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for body in (b"", b"{", b"\xff\xfe", b"[]", b'{"kind":"AdmissionReview"}', b"{" * 100_000):
            async with session.post(road.services.webhook_url(), data=body, ssl=tls) as answer:
                assert answer.status == 400, body[:20]
                assert len((await answer.text()).splitlines()) == 1
    assert await road.metric("gateway-0", 'moorgate_admission_bad_requests_total{code="400"}') == before + 6
    await kube.create(pod("after", GOOD))


def _requests(action: str) -> str:
    labels = f'action="{action}",operation="CREATE",resource="Pod"'
    return f"moorgate_admission_requests_total{{{labels}}}"
