"""The embedded control plane does what the tests of the services rely on.

Workloads come up, the garbage collector collects, a webhook is called and its refusal is understood,
and the parts go on after a restart of the API server.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme
from aiohttp import web

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubeapi import GONE, ApiError, KubeApi
from deploy.dev.ports import free_port
from tests.support.kube import Kubectl, move_tag

DIGEST = "sha256:" + "ab" * 32
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "leaves.tests.moorgate.dev"},
    "spec": {
        "group": "tests.moorgate.dev",
        "scope": "Namespaced",
        "names": {"plural": "leaves", "singular": "leaf", "kind": "Leaf"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }
        ],
    },
}


def pod_template(image: str = "nginx") -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image}]},
    }


def workload(kind: str, image: str = "nginx", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": pod_template(image), **spec},
    }


def pod(name: str, image: str = "nginx") -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": image}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
async def leaf_crd(control_plane: ControlPlane) -> AsyncIterator[str]:
    """A custom resource with nothing in it, known to the garbage collector."""
    admin = Kubectl(control_plane)
    await admin.create(CRD)
    await admin.wait("condition=Established", "crd/leaves.tests.moorgate.dev")
    await control_plane.controller_manager.restart()  # it looks for new kinds at its start, then every 30 s
    yield "leaves"
    await admin.ok("delete", "crd", "leaves.tests.moorgate.dev")


@dataclass
class Refuser:
    """An admission webhook that refuses the first reviews of a Pod and then allows it."""

    refusals: int
    reviews: list[dict[str, Any]] = field(default_factory=list)

    async def review(self, request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        self.reviews.append(asked)
        answer: dict[str, Any] = {"uid": asked["uid"], "allowed": len(self.reviews) > self.refusals}
        if not answer["allowed"]:
            answer["status"] = {
                "code": 429,
                "message": "the scan is under way",
                "details": {"retryAfterSeconds": 1},
            }
        return web.json_response(
            {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
        )


@pytest.fixture
async def refuser(kubectl: Kubectl) -> AsyncIterator[Refuser]:
    """The webhook, serving and registered for the test's namespace."""
    refuser, port, authority = Refuser(refusals=2), free_port(), trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    app = web.Application()
    app.router.add_post("/review", refuser.review)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    bundle = base64.b64encode(authority.cert_pem.bytes()).decode()
    await kubectl.create(registration(kubectl.namespace, f"https://127.0.0.1:{port}/review", bundle))
    yield refuser
    await kubectl.ok("delete", "validatingwebhookconfiguration", kubectl.namespace)
    await runner.cleanup()


def registration(namespace: str, url: str, ca_bundle: str) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": namespace},
        "webhooks": [
            {
                "name": "refuser.tests.moorgate.dev",
                "clientConfig": {"url": url, "caBundle": ca_bundle},
                "rules": [rule],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


async def test_deployment_comes_up_and_goes_with_all_its_pods(kubectl: Kubectl) -> None:
    await kubectl.create(workload("Deployment", f"nginx:1.27@{DIGEST}", replicas=3))
    await kubectl.ok("rollout", "status", "deployment/web", "--timeout=15s")
    pods = await kubectl.get("pods")
    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 3
    assert {pod["spec"]["nodeName"] for pod in pods} <= {"node-1", "node-2"}
    assert {pod["status"]["containerStatuses"][0]["imageID"] for pod in pods} == {
        f"docker.io/library/nginx@{DIGEST}"
    }
    await kubectl.ok("delete", "deployment", "web", "--wait=false")
    await kubectl.wait("delete", "replicasets,pods", "--all")


async def test_daemonset_has_a_pod_on_each_node(kubectl: Kubectl) -> None:
    await kubectl.create(workload("DaemonSet"))
    await kubectl.ok("rollout", "status", "daemonset/web", "--timeout=15s")
    assert sorted(pod["spec"]["nodeName"] for pod in await kubectl.get("pods")) == ["node-1", "node-2"]


async def test_moved_tag_shows_in_new_pods_only(kubectl: Kubectl, control_plane: ControlPlane) -> None:
    other, reference = "sha256:" + "cd" * 32, f"registry.example/{kubectl.namespace}:1"
    for name, digest in (("old", DIGEST), ("new", other)):
        move_tag(control_plane, reference, digest)
        await kubectl.create(pod(name, reference))
        await kubectl.wait("condition=Ready", f"pod/{name}")
    await kubectl.ok("label", "pod", "--all", "touched=yes")
    running = {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["imageID"].partition("@")[2]
        for pod in await kubectl.get("pods")
    }
    assert running == {"old": DIGEST, "new": other}


async def test_job_completes_and_debugging_shows_as_running(kubectl: Kubectl) -> None:
    await kubectl.create(pod("plain"))
    await kubectl.ok("create", "job", "once", "--image=busybox")
    await kubectl.wait("condition=Ready", "pod/plain")
    await kubectl.ok("debug", "pod/plain", "--image=busybox", "--container=look")
    await kubectl.wait("jsonpath={.status.ephemeralContainerStatuses[0].state.running}", "pod/plain")
    await kubectl.wait("condition=Complete", "job/once")


async def test_custom_resource_goes_with_its_owner(kubectl: Kubectl, leaf_crd: str) -> None:
    await kubectl.ok("create", "configmap", "owner")
    owner = (await kubectl.get("configmap", "owner"))["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner}
    leaf = {"apiVersion": "tests.moorgate.dev/v1", "kind": "Leaf"}
    await kubectl.create(
        {**leaf, "metadata": {"name": "owned", "ownerReferences": [reference]}},
        {**leaf, "metadata": {"name": "free"}},
    )
    await kubectl.ok("delete", "configmap", "owner")
    await kubectl.wait("delete", f"{leaf_crd}/owned")
    assert [item["metadata"]["name"] for item in await kubectl.get(leaf_crd)] == ["free"]


async def test_developer_deploys_but_does_not_administer(kubectl: Kubectl) -> None:
    developer = kubectl.as_user("developer")
    await developer.create(pod("mine"))
    refused = await developer.run("get", "nodes")
    assert refused.code != 0
    assert 'User "developer" cannot list resource "nodes"' in refused.stderr


async def test_kubectl_waits_by_itself_when_told_to_come_back(kubectl: Kubectl, refuser: Refuser) -> None:
    await kubectl.create(pod("patient"))
    assert [review["name"] for review in refuser.reviews] == ["patient"] * 3
    assert refuser.reviews[0]["userInfo"]["username"] == "admin"


async def test_api_server_restart_is_survived_by_all(kubectl: Kubectl, control_plane: ControlPlane) -> None:
    await kubectl.create(pod("before"))
    control_plane.apiserver.kill()
    await control_plane.apiserver.start()
    await asyncio.gather(
        kubectl.wait("condition=Ready", "pod/before"),
        kubectl.create(workload("Deployment", replicas=2)),
    )
    await kubectl.ok("rollout", "status", "deployment/web", "--timeout=20s")


async def test_watch_from_a_forgotten_version_says_so(control_plane: ControlPlane) -> None:
    await control_plane.apiserver.restart()  # it remembers no events from before
    async with KubeApi(control_plane.kubeconfig()) as api:
        with pytest.raises(ApiError) as refused:
            async with asyncio.timeout(10):
                await anext(api.watch("/api/v1/pods", "1"))
    assert refused.value.status == GONE


async def test_controller_manager_restarts_alone(kubectl: Kubectl, control_plane: ControlPlane) -> None:
    before = control_plane.controller_manager.pid
    await control_plane.controller_manager.restart()
    assert control_plane.controller_manager.pid != before
    await kubectl.create(workload("Deployment", replicas=1))
    await kubectl.ok("rollout", "status", "deployment/web", "--timeout=20s")
