"""A control plane with other settings than the session's, beside it: users, audit log, CRDs, lost etcd."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.credentials import User
from tests.deploy.test_controlplane import CRD, pod, workload
from tests.support.kube import Kubectl, remove_store, require_binaries

POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    require_binaries()
    policy, crds = tmp_path / "policy.yaml", tmp_path / "crds.yaml"
    policy.write_text(json.dumps(POLICY))
    crds.write_text(json.dumps(CRD))
    async with ControlPlane(
        folder=tmp_path / "plane",
        users=[User("ci", ("system:masters",), token="of-its-own")],
        controller_manager_user="controllers",
        nodes=1,
        audit_policy=policy,
        crds=crds,
        kubelet_flags=["--jobs-never-end"],
    ) as plane:
        yield plane
    remove_store(plane.folder)


@pytest.mark.cluster
async def test_own_settings_hold(plane: ControlPlane) -> None:
    kubectl = Kubectl(plane, user="ci")
    await kubectl.create(workload("Deployment", replicas=1), pod("plain"))
    await kubectl.ok("rollout", "status", "deployment/web", "--timeout=15s")
    assert await kubectl.get("leaves") == []
    assert [node["metadata"]["name"] for node in await kubectl.get("nodes")] == ["node-1"]
    assert ("controllers", "create", "replicasets") in audited(plane)

    plane.etcd.kill()
    await plane.etcd.start()
    await kubectl.create(pod("after"))
    await kubectl.wait("condition=Ready", "pod/plain", "pod/after")


def audited(plane: ControlPlane) -> set[tuple[str, str, str]]:
    events = map(json.loads, (plane.folder / "audit.log").read_text().splitlines())
    return {
        (event["user"]["username"], event["verb"], event.get("objectRef", {}).get("resource", ""))
        for event in events
    }
