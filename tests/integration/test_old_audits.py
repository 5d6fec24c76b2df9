"""A cluster that still has the Audits of the Anchore Image Validator: one clear line, and how to go on."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from shared.lifecycle import EXIT_BAD_SETTING
from tests.support.kube import CHART_CRDS, Kubectl, remove_store, require_binaries

OLD_NAME = "audits.security.banzaicloud.com"


def old_crd() -> dict[str, Any]:
    """As the original installs it: cluster-scoped, its schema left open."""
    open_schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": open_schema}
    names = {"kind": "Audit", "listKind": "AuditList", "plural": "audits", "singular": "audit"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": OLD_NAME},
        "spec": {
            "group": "security.banzaicloud.com",
            "scope": "Cluster",
            "names": names,
            "versions": [version],
        },
    }


@pytest.fixture
def old_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane of its own, with the original's CRD."""
    require_binaries()
    crds = tmp_path / "crds"
    crds.mkdir()
    (crds / "audits.yaml").write_text(yaml.safe_dump(old_crd()))
    # A loop of its own: what it starts is stopped by the same.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        plane = ControlPlane(
            folder=tmp_path / "plane", nodes=0, controllers=("namespace-controller",), crds=crds
        )
        runner.run(plane.start())
        try:
            yield plane
        finally:
            runner.run(plane.stop())
            remove_store(plane.folder)


async def started(plane: ControlPlane, server: NatsServer) -> asyncio.subprocess.Process:
    environment = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(plane.kubeconfig()),
        "MOORGATE_NATS_URL": server.url,
        "MOORGATE_METRICS_LISTEN": "127.0.0.1:0",
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.audit_writer",
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_it_refuses_to_start_and_the_commands_it_names_mend_that(
    old_plane: ControlPlane, nats_server: NatsServer
) -> None:
    admin = Kubectl(old_plane)
    old = {
        "apiVersion": "security.banzaicloud.com/v1alpha1",
        "kind": "Audit",
        "metadata": {"name": "replicaset-web"},
        "spec": {"releaseName": "web", "image": [{"imageName": "nginx"}], "action": "allowed"},
    }
    await admin.create(old)
    process = await started(old_plane, nats_server)
    _, complaint = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == EXIT_BAD_SETTING
    [line] = [each for each in complaint.decode().splitlines() if each.startswith("moorgate: ")]
    assert "cluster-scoped Audits of the Anchore Image Validator" in line
    assert f"kubectl get {OLD_NAME} -o yaml > audits-old.yaml" in line
    assert f"kubectl delete crd {OLD_NAME}" in line

    assert "imageName: nginx" in await admin.ok("get", OLD_NAME, "-o", "yaml")
    await admin.ok("delete", "crd", OLD_NAME)
    await admin.create(yaml.safe_load((CHART_CRDS / "audits.yaml").read_text()))
    assert "true" in await admin.ok("api-resources", "--api-group=security.banzaicloud.com", "--no-headers")
