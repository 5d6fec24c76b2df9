"""A real Kubernetes control plane without a cluster: etcd, API server, controller manager, stand-in kubelet.

Admission, RBAC, CRDs, server-side apply, controllers and the garbage collector are Kubernetes' own; only
the machines are made up (see kubelet.py). Each part is a Process of its own and may be killed, paused or
restarted alone, on the same port and the same etcd data. Webhooks are reached by `clientConfig.url`:
cluster addresses lead nowhere here.
"""

import asyncio
import ssl
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.dev.binaries import Binaries, provide
from deploy.dev.credentials import CredentialFiles, User, write_credentials
from deploy.dev.kubeapi import ApiError, KubeApi
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, ProcessError, answers_ok
from deploy.dev.programs import installed

ADMIN = User("admin", ("system:masters",))
KUBELET = User("stand-in-kubelet", ("system:masters",))
DEVELOPER = User("developer")
"""Someone who deploys things: the cluster role `edit` everywhere, and no more."""

CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "daemonset-controller",
    "job-controller",
    "cronjob-controller",
    "replicationcontroller-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "clusterrole-aggregation-controller",  # without it the roles view, edit and admin are empty
)

CONFLICT = 409


@dataclass(kw_only=True)
class ControlPlane:
    """Everything below one folder; `async with ControlPlane(folder=…) as plane`, then `plane.kubeconfig("admin")`."""

    folder: Path
    users: Sequence[User] = ()
    """Known besides admin and developer. A user needs a token before the API server starts."""
    controllers: Sequence[str] = CONTROLLERS
    controller_manager_user: str = "system:kube-controller-manager"
    """Who the controllers are to the API server, and so to a webhook; bound to cluster-admin."""
    nodes: int = 2
    """Made-up machines; 0 starts no kubelet, and Pods stay Pending."""
    crds: Path | None = None
    """A file or folder of CRDs, installed before the controllers start: the garbage collector of a running
    controller manager learns of new kinds only every 30 s."""
    images: Path | None = None
    """A JSON file, image reference to digest, of what the made-up registries serve."""
    audit_policy: Path | None = None
    """Switches the API server's audit log on; it is written to `audit.log` in the folder."""
    service_account_tokens: bool = False
    """Whether Pods get the volume of their service account's token, as in a cluster: only a node that really
    runs them has a use for it, and a Pod must then wait for its namespace's account."""
    apiserver_flags: Sequence[str] = ()
    controller_manager_flags: Sequence[str] = ()
    kubelet_flags: Sequence[str] = ()
    etcd_port: int = field(default_factory=free_port)
    etcd_peer_port: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    controller_manager_port: int = field(default_factory=free_port)
    etcd: Process = field(init=False)
    apiserver: Process = field(init=False)
    controller_manager: Process = field(init=False)
    kubelet: Process = field(init=False)
    _files: CredentialFiles = field(init=False)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)

    @property
    def url(self) -> str:
        """The API server."""
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, user: str = ADMIN.name) -> Path:
        """The kubeconfig file of a user named at the start."""
        path = self._files.kubeconfig(user)
        if not path.exists():
            raise KeyError(f"no user {user!r}: name it in ControlPlane(users=…) before the start")
        return path

    async def start(self) -> None:
        """Start all parts and wait until each is ready; on failure nothing is left running."""
        binaries = provide()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._describe(binaries)
        async with AsyncExitStack() as stack:
            stack.callback(self.etcd.kill)  # the teardown wants no etcd that flushes to its disk
            self.etcd.launch()
            await stack.enter_async_context(self.apiserver)  # it waits for etcd itself
            await self._bind_roles()
            await self._install_crds()
            parts = [self.controller_manager, *([self.kubelet] if self.nodes else [])]
            for part in parts:
                stack.push_async_callback(part.stop)
                part.launch()
            await asyncio.gather(*(part.wait_until_ready() for part in parts))
            self._open = stack.pop_all()

    async def stop(self) -> None:
        """Stop all parts, last started first; the data stay in the folder."""
        await self._open.aclose()

    def _describe(self, binaries: Binaries) -> None:
        controllers = User(self.controller_manager_user)
        users = [ADMIN, DEVELOPER, KUBELET, controllers, *self.users]
        self._files = write_credentials(self.folder / "credentials", self.url, users)
        self.etcd = self._etcd(binaries)
        self.apiserver = self._apiserver(binaries)
        self.controller_manager = self._controller_manager(binaries)
        self.kubelet = self._kubelet()

    def _etcd(self, binaries: Binaries) -> Process:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        return Process(
            name="etcd",
            argv=[
                binaries.etcd,
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",  # survives kill -9, not a power cut
                f"--quota-backend-bytes={2 * 1024**3}",
                "--log-level=warn",
            ],
            log=self.folder / "etcd.log",
            ready=answers_ok(f"{client}/readyz"),
        )

    def _apiserver(self, binaries: Binaries) -> Process:
        files = self._files
        return Process(
            name="kube-apiserver",
            argv=[
                binaries.apiserver,
                f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
                f"--secure-port={self.port}",
                "--bind-address=127.0.0.1",
                "--advertise-address=192.0.2.1",  # nobody's address: else it looks for a default route
                "--endpoint-reconciler-type=none",
                f"--tls-cert-file={files.serving_certificate}",
                f"--tls-private-key-file={files.serving_key}",
                f"--service-account-key-file={files.service_account_key}",
                f"--service-account-signing-key-file={files.service_account_key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=RBAC",
                f"--token-auth-file={files.tokens}",
                "--service-cluster-ip-range=10.0.0.0/24",
                *([] if self.service_account_tokens else ["--disable-admission-plugins=ServiceAccount"]),
                *self._audit_flags(),
                *self.apiserver_flags,
            ],
            log=self.folder / "kube-apiserver.log",
            ready=answers_ok(f"{self.url}/readyz", ssl.create_default_context(cafile=files.ca)),
            ready_within=60,
            stop_within=2,  # it would wait for its open watches; all that counts is in etcd
        )

    def _audit_flags(self) -> list[str]:
        if self.audit_policy is None:
            return []
        return [f"--audit-policy-file={self.audit_policy}", f"--audit-log-path={self.folder / 'audit.log'}"]

    def _controller_manager(self, binaries: Binaries) -> Process:
        files, port = self._files, self.controller_manager_port
        return Process(
            name="kube-controller-manager",
            argv=[
                binaries.controller_manager,
                f"--kubeconfig={files.kubeconfig(self.controller_manager_user)}",
                "--leader-elect=false",
                f"--controllers={','.join(self.controllers)}",
                f"--root-ca-file={files.ca}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",  # only for the health check
                f"--tls-cert-file={files.serving_certificate}",
                f"--tls-private-key-file={files.serving_key}",
                *self.controller_manager_flags,
            ],
            log=self.folder / "kube-controller-manager.log",
            ready=answers_ok(
                f"https://127.0.0.1:{port}/healthz", ssl.create_default_context(cafile=files.ca)
            ),
        )

    def _kubelet(self) -> Process:
        ready_file = self.folder / "kubelet.ready"
        ready_file.unlink(missing_ok=True)

        async def registered() -> bool:
            return ready_file.exists()

        return Process(
            name="kubelet",
            argv=[
                sys.executable,
                *("-m", "deploy.dev.kubelet"),
                f"--kubeconfig={self._files.kubeconfig(KUBELET.name)}",
                f"--nodes={self.nodes}",
                f"--ready-file={ready_file}",
                *([f"--images={self.images}"] if self.images else []),
                *self.kubelet_flags,
            ],
            cwd=Path(__file__).parents[2],
            log=self.folder / "kubelet.log",
            ready=registered,
        )

    async def _bind_roles(self) -> None:
        async with KubeApi(self.kubeconfig()) as api:
            for user, role in ((self.controller_manager_user, "cluster-admin"), (DEVELOPER.name, "edit")):
                try:
                    await api.request(
                        "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", _binding(user, role)
                    )
                except ApiError as error:
                    if error.status != CONFLICT:  # the folder's etcd has it from an earlier start
                        raise

    async def _install_crds(self) -> None:
        if self.crds is None:
            return
        await self._kubectl("apply", "--server-side")
        try:
            await self._kubectl("wait", "--for=condition=Established")
        except ProcessError as error:
            # kubectl meets a CRD that was made this moment: it gives up on one that has no conditions at all.
            if "status.conditions accessor error" not in str(error):
                raise
            await self._kubectl("wait", "--for=jsonpath={.status.conditions}")
            await self._kubectl("wait", "--for=condition=Established")

    async def _kubectl(self, *words: str) -> None:
        kubectl = await asyncio.create_subprocess_exec(
            installed("kubectl"),
            f"--kubeconfig={self.kubeconfig()}",
            f"--cache-dir={self.folder / 'kubectl-cache'}",
            *words,
            f"--filename={self.crds}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await kubectl.communicate()
        if kubectl.returncode != 0:
            raise ProcessError(f"kubectl {words[0]} of {self.crds} failed\n{said.decode()}")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _binding(user: str, role: str) -> dict[str, object]:
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": f"dev:{user}:{role}"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
