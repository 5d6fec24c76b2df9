"""How the tests reach Kubernetes: one real control plane per session, one namespace per test, kubectl.

The control plane starts at the first test that asks for it and is shared; whatever a test makes outside
its namespace (CRDs, webhook registrations) it removes itself. Its programs belong to no event loop (see
deploy.dev.processes), so a test may kill or restart them and leaves them running for the next.
"""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.dev import binaries
from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Answer, Kubectl, KubectlError

__all__ = ["Answer", "Kubectl", "KubectlError", "control_plane", "kubectl", "move_tag", "namespace"]

CHART_CRDS = Path(__file__).parents[2] / "deploy" / "helm" / "moorgate" / "files" / "crds"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the control plane bears the marker, so that nobody can forget it."""
    for item in items:
        if "control_plane" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The session's control plane: the chart's CRDs, two nodes, the users `admin` and `developer`."""
    require_binaries()
    # A loop of its own: fixtures of a session outlive the loops of the tests.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        folder = tmp_path_factory.mktemp("control-plane")
        images = folder / "images.json"
        images.write_text("{}")
        has_crds = any(CHART_CRDS.glob("*.yaml"))
        plane = ControlPlane(folder=folder, images=images, crds=CHART_CRDS if has_crds else None)
        runner.run(plane.start())
        try:
            yield plane
        finally:
            runner.run(plane.stop())
            remove_store(plane.folder)


@pytest.fixture
async def namespace(control_plane: ControlPlane) -> AsyncIterator[str]:
    """A namespace for one test; removed afterwards, without waiting."""
    name = f"test-{secrets.token_hex(4)}"
    admin = Kubectl(control_plane)
    await admin.ok("create", "namespace", name)
    yield name
    await admin.ok("delete", "namespace", name, "--wait=false")


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Kubectl:
    """kubectl for the administrator in the test's namespace."""
    return Kubectl(control_plane, namespace)


def move_tag(plane: ControlPlane, reference: str, digest: str) -> None:
    """What the made-up registries serve for the reference from now on; running containers keep theirs."""
    if plane.images is None:
        raise ValueError("this control plane was started without an images file")
    served = {**json.loads(plane.images.read_text()), reference: digest}
    part = plane.images.with_suffix(".part")
    part.write_text(json.dumps(served))
    part.rename(plane.images)  # the kubelet may read it at any moment


def require_binaries() -> None:
    """Skip where the control plane isn't built; in CI that is a failure."""
    if binaries.find() is not None:
        return
    message = "the control plane is not built: run `python -m deploy.dev.binaries` once"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def remove_store(folder: Path) -> None:
    """etcd sets aside 128 MB; pytest keeps the last three sessions' folders, logs are enough."""
    for file in (folder / "etcd").rglob("*"):
        if file.is_file():
            file.unlink()
