"""`moorgate explain` on the running road: what was decided, how it stands now, and what lets it in."""

import secrets
from typing import Any

import pytest

from deploy.dev.kubectl import Kubectl
from deploy.dev.ports import free_port
from tests.support.command_line import CommandLine
from tests.support.road import WatchedRoad, audit, pod, until

pytestmark = pytest.mark.cluster

GOOD, BAD = "nginx:1.25", "registry.example/bad/explained:1"


def deployment(name: str, image: str) -> dict[str, Any]:
    labels = {"app": name}
    containers = [{"name": "main", "image": image}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


async def test_a_refused_pod_and_what_lets_it_in(kube: Kubectl, moorgate: CommandLine) -> None:
    release = f"x-{kube.namespace}"
    refused = await kube.run("create", "-f", "-", stdin=pod("told", BAD, labels={"release": release}))
    assert refused.code == 1
    await audit(kube, "pod-told")
    here = ("-n", kube.namespace)
    for target in ("pod/told", "audit/pod-told"):
        text = (await moorgate.ok("explain", target, *here)).stdout
        assert f"{target} in namespace {kube.namespace} (release {release})\n  refused " in text
        assert f"container main: {BAD}\n  then:\n    fail, judged " in text
        assert "gate vulnerabilities" in text
        assert "judged by no ImagePolicy: the gateways' defaults (mode enforce" in text
        assert "whitelist: no item covers it" in text
        assert f"moorgate whitelist add {release} --namespace {kube.namespace} --for 24h" in text
        assert "not looked at" not in text
    await moorgate.ok("whitelist", "add", release, "--reason", "test", "-n", kube.namespace)
    try:
        story = (await moorgate.ok("explain", "pod/told", *here, "-o", "json")).json()
        [image] = story["images"]
        assert image["whitelistItems"] == [release]
        assert image["advice"] == [f"it is let in: WhiteListItem {release} covers it"]
        assert image["verdict"]["result"] == "fail"
    finally:
        await moorgate.ok("whitelist", "remove", release)


async def test_a_deployment_whose_pods_are_refused(kube: Kubectl, moorgate: CommandLine) -> None:
    await kube.create(deployment("web", BAD))
    await audit(kube, "replicaset-web-", seconds=60)
    text = (await moorgate.ok("explain", "deployment/web", "-n", kube.namespace)).stdout
    assert "  refused " in text
    assert "container main: " in text


async def test_what_waits_for_its_scan_has_no_record_yet(
    road: WatchedRoad, kube: Kubectl, moorgate: CommandLine
) -> None:
    image = f"registry.example/bulk/explain-{secrets.token_hex(4)}:1"
    await road.tell_anchore("push", reference=image, content={"analysis_seconds": 600})
    await kube.create(deployment("slow", image))

    async def is_scanned() -> bool:
        text = (await moorgate.ok("explain", "deploy/slow", "-n", kube.namespace)).stdout
        assert "no decision is recorded" in text
        return "being scanned for" in text and "wait until it is scanned" in text

    await until(is_scanned, "its scan is told", seconds=60)
    await kube.ok("delete", "deployment", "slow")


async def test_each_trouble_is_told(road: WatchedRoad, kube: Kubectl, moorgate: CommandLine) -> None:
    here = ("-n", kube.namespace)
    await moorgate.refuses(
        (2, "'web' names nothing", ("explain", "web", *here)),
        (2, "'service' is no kind", ("explain", "service/web", *here)),
        (1, "there is no pod/web", ("explain", "pod/web", *here)),
        (1, "there is no audit/web", ("explain", "audit/web", *here)),
        (2, "--nats-ca-file", ("explain", "pod/web", *here, "--nats-ca-file", "/nowhere")),
    )
    await kube.create(pod("seen", GOOD))
    await audit(kube, "pod-seen")
    nobody = f"nats://127.0.0.1:{free_port()}"
    away = (await moorgate.ok("explain", "audit/pod-seen", *here, "--nats-url", nobody)).stdout
    assert "  let in " in away
    assert f"not looked at: nats is away: it does not answer at {nobody}" in away
    developer = moorgate.given(KUBECONFIG=str(road.plane.kubeconfig("developer")))
    answer = await developer("explain", "pod/seen", *here)
    assert answer.code == 3
    assert "you have no right to do that: audits" in answer.trouble
