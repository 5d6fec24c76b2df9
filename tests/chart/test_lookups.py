"""What the chart asks of the cluster while it is rendered: how many Pods an autoscaler keeps, and whether another gate is there.

Helm renders for a real API server (`--dry-run=server`), as at an install or an upgrade, and writes nothing.
"""

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.dev.helm import HelmError, Release
from tests.support.chart import Json
from tests.support.kube import Kubectl

NAME = "moorgate"
PARTS = ("gateway", "scanner")
UPGRADE = ("--dry-run=server", "--is-upgrade")
SCALING: Json = {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9}}


def release(kubectl: Kubectl, **values: Any) -> Release:
    given = {"anchore": {"url": "http://anchore:8228"}, "crds": {"install": False}, **values}
    return Release(
        name=NAME, namespace=kubectl.namespace, kubeconfig=kubectl.plane.kubeconfig(), values=given
    )


def replicas(found: Release, *options: str) -> list[int | None]:
    """Of gateways and scanners."""
    by_name = {
        each["metadata"]["name"]: each["spec"].get("replicas")
        for each in found.template(*options)
        if each["kind"] == "Deployment"
    }
    return [by_name[f"{NAME}-{part}"] for part in PARTS]


def deployment(name: str, count: int) -> Json:
    labels = {"of": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "paused": True,
            "replicas": count,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "a", "image": "registry.example/a:1"}]},
            },
        },
    }


def autoscaler(name: str) -> Json:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "maxReplicas": 9,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        },
    }


async def test_an_autoscaler_is_switched_on_without_a_gateway_less(kubectl: Kubectl) -> None:
    """No number in the new manifest would take away that of the old one: one gateway."""
    on = release(kubectl, gateway=SCALING, scanner=SCALING)
    assert replicas(on, "--dry-run=server") == [None, None], "a first install: the autoscaler will say"
    await kubectl.create(deployment(f"{NAME}-gateway", 2))
    await kubectl.create(deployment(f"{NAME}-scanner", 5))
    assert replicas(on, *UPGRADE) == [3, 5], "as many as there are, and the least at least"
    for part in PARTS:
        await kubectl.create(autoscaler(f"{NAME}-{part}"))
    assert replicas(on, *UPGRADE) == [2, 5], "what the autoscaler says is its own affair"
    assert replicas(release(kubectl), *UPGRADE) == [2, 2]
    assert replicas(on) == [None, None], "who renders without a cluster must not undo the autoscaler's work"


@pytest.fixture
async def registered(kubectl: Kubectl) -> AsyncIterator[Json]:
    """The registration of another release in this namespace; it meets nobody."""
    found: Json = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": f"lookup-{secrets.token_hex(3)}",
            "labels": {"app.kubernetes.io/part-of": "moorgate", "app.kubernetes.io/instance": "another"},
        },
        "webhooks": [
            {
                "name": "pods.moorgate.test",
                "clientConfig": {"service": {"name": "gateway", "namespace": kubectl.namespace}},
                "rules": [],
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    await kubectl.create(found)
    yield found
    await kubectl.ok("delete", "validatingwebhookconfiguration", found["metadata"]["name"])


async def test_a_second_release_is_refused(kubectl: Kubectl, registered: Json) -> None:
    name = registered["metadata"]["name"]
    second = release(kubectl)
    with pytest.raises(HelmError, match=f"another in the namespace {kubectl.namespace} .*{name}"):
        second.template("--dry-run=server")
    assert second.template(), "without a cluster nobody can tell"
    await _change(kubectl, name, {"metadata": {"labels": {"app.kubernetes.io/instance": NAME}}})
    assert second.template("--dry-run=server"), "its own registration"
    await _change(kubectl, name, {"metadata": {"labels": {"app.kubernetes.io/instance": None}}})
    assert second.template("--dry-run=server"), "registered by hand, it is of no release"
    await _change(kubectl, name, {"metadata": {"labels": {"app.kubernetes.io/instance": NAME}}})
    elsewhere = {
        **registered["webhooks"][0],
        "clientConfig": {"service": {"name": "a", "namespace": "elsewhere"}},
    }
    await _change(kubectl, name, {"webhooks": [elsewhere]})
    with pytest.raises(HelmError, match="in the namespace elsewhere"):
        second.template("--dry-run=server")
    assert release(kubectl, webhooks={"enabled": False}).template("--dry-run=server"), "it registers nobody"


async def _change(kubectl: Kubectl, name: str, change: Json) -> None:
    target = f"validatingwebhookconfiguration/{name}"
    await kubectl.ok("patch", target, "--type=merge", "--patch", json.dumps(change))
