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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.dev import binaries
from deploy.dev.controlplane import ControlPlane
from deploy.dev.programs import installed

CHART_CRDS = Path(__file__).parents[2] / "deploy" / "helm" / "moorgate" / "files" / "crds"


@dataclass(frozen=True)
class Answer:
    """What kubectl said."""

    code: int
    stdout: str
    stderr: str


class KubectlError(AssertionError):
    """kubectl failed where the test needed it to work."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl as one user in one namespace."""

    plane: ControlPlane
    namespace: str = "default"
    user: str = "admin"

    def as_user(self, user: str) -> "Kubectl":
        """The same namespace, somebody else."""
        return replace(self, user=user)

    async def run(self, *arguments: str, stdin: object = None) -> Answer:
        """Run kubectl to its end; `stdin` is a manifest, written as JSON."""
        child = await asyncio.create_subprocess_exec(
            installed("kubectl"),
            f"--kubeconfig={self.plane.kubeconfig(self.user)}",
            f"--cache-dir={self.plane.folder / 'kubectl-cache'}",  # the user's knows other clusters on this port
            f"--namespace={self.namespace}",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        given = b"" if stdin is None else json.dumps(stdin).encode()
        try:
            out, err = await child.communicate(given)
        except asyncio.CancelledError:  # the test's time is up
            child.kill()
            await child.wait()
            raise
        return Answer(child.returncode or 0, out.decode(), err.decode())

    async def ok(self, *arguments: str, stdin: object = None) -> str:
        """The standard output; raises KubectlError when kubectl failed."""
        answer = await self.run(*arguments, stdin=stdin)
        if answer.code != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {answer.stderr}{answer.stdout}")
        return answer.stdout

    async def create(self, *manifests: dict[str, Any]) -> None:
        """Create objects; the namespace is filled in by kubectl."""
        for manifest in manifests:
            await self.ok("create", "-f", "-", stdin=manifest)

    async def get(self, *arguments: str) -> Any:
        """An object, or the items of a list."""
        found = json.loads(await self.ok("get", "-o", "json", *arguments))
        return found["items"] if found["kind"] == "List" else found

    async def wait(self, condition: str, *targets: str, seconds: int = 15) -> None:
        """Wait for `condition=Ready`, `delete`, `jsonpath=…`; by a watch, not by asking again and again."""
        await self.ok("wait", f"--for={condition}", f"--timeout={seconds}s", *targets)


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
