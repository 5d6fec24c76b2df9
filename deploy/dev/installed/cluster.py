"""A cluster to install into: control plane with an audit log, Anchore's simulator, and the node of one namespace.

The control plane is a stricter one than the shared one: Pods get service account tokens, names lead somewhere, and
every call of the release's service accounts is written to the API server's audit log.
"""

import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from deploy.dev.controlplane import CONTROLLERS, KUBELET, ControlPlane
from deploy.dev.installed import addresses
from deploy.dev.installed.addresses import Networks
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.services import ROOT

FURTHER_CONTROLLERS = (
    "endpointslice-controller",
    "root-ca-certificate-publisher-controller",
    "disruption-controller",
    "horizontal-pod-autoscaler-controller",
    "validatingadmissionpolicy-status-controller",
)


@dataclass(kw_only=True)
class InstallationCluster:
    """`async with InstallationCluster(folder=…) as cluster`: then `helm install` into its namespace."""

    folder: Path
    namespace: str = "moorgate"
    anchore_port: int = field(default_factory=free_port)
    plane: ControlPlane = field(init=False)
    anchore: Process = field(init=False)
    node: Process = field(init=False)
    _networks: Networks = field(init=False)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    @property
    def anchore_url(self) -> str:
        """The simulator, for Pods too: they share this machine's network."""
        return f"http://127.0.0.1:{self.anchore_port}"

    @property
    def audit_log(self) -> Path:
        """What the API server wrote about the release's service accounts."""
        return self.plane.folder / "audit.log"

    @property
    def logs(self) -> Path:
        """What containers said, one file each."""
        return self.folder / "node" / "logs"

    async def start(self) -> None:
        """Start all parts; on failure nothing is left running."""
        self.folder.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            self._networks = addresses.take()
            stack.callback(self._networks.remove)
            self.plane = self._control_plane()
            self.anchore = self._simulator()
            await stack.enter_async_context(self.plane)
            await stack.enter_async_context(self.anchore)
            self.node = self._node()
            stack.push_async_callback(self._stop_node)
            await self.node.start()
            self._open = stack.pop_all()

    async def stop(self) -> None:
        """Stop all parts, last started first."""
        await self._open.aclose()

    async def kill_everything_installed(self) -> None:
        """All containers die at once and none comes back; the cluster goes on and can still delete Pods."""
        self.node.kill()
        self.node = self._node("--dead")
        await self.node.start()

    async def tell_anchore(self, command: str, **body: object) -> Any:
        """A command through the simulator's door (deploy/dev/anchore/door.py)."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.anchore_url}/simulator/{command}", json=body) as answer,
        ):
            if answer.status != 200:  # noqa: PLR2004  HTTP's own number
                raise ValueError(await answer.text())
            return await answer.json()

    def _control_plane(self) -> ControlPlane:
        policy = self.folder / "audit-policy.json"
        policy.write_bytes(msgspec.json.encode(audit_policy(self.namespace)))
        images = self.folder / "images.json"
        images.write_text("{}")
        return ControlPlane(
            folder=self.folder / "control-plane",
            audit_policy=policy,
            images=images,
            controllers=[*CONTROLLERS, *FURTHER_CONTROLLERS],
            service_account_tokens=True,
            apiserver_flags=[
                f"--service-cluster-ip-range={self._networks.services}",
                "--audit-log-mode=blocking",
            ],
            kubelet_flags=[f"--but-not={self.namespace}"],
        )

    def _simulator(self) -> Process:
        return Process(
            name="anchore-simulator",
            argv=[sys.executable, "-m", "deploy.dev.anchore", "--port", str(self.anchore_port)],
            log=self.folder / "anchore.log",
            ready=answers_ok(f"{self.anchore_url}/health"),
            cwd=ROOT,
        )

    def _node(self, *flags: str) -> Process:
        hosts = self.folder / "node" / "hosts"
        hosts.unlink(missing_ok=True)

        async def has_begun() -> bool:
            return hosts.exists()

        return Process(
            name="node",
            argv=[
                sys.executable,
                *("-m", "deploy.dev.installed.node"),
                f"--kubeconfig={self.plane.kubeconfig(KUBELET.name)}",
                f"--namespace={self.namespace}",
                f"--folder={self.folder / 'node'}",
                f"--addresses={self._networks.pods}",
                *flags,
            ],
            log=self.folder / "node.log",
            ready=has_begun,
            cwd=ROOT,
        )

    async def _stop_node(self) -> None:
        """Whichever runs now."""
        await self.node.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def audit_policy(namespace: str) -> dict[str, Any]:
    """Metadata of every call of the namespace's service accounts; nobody else's."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{namespace}"]},
            {"level": "None"},
        ],
    }
