"""A release of the chart on a cluster of its own, and what tests ask of it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from deploy.dev.helm import HelmError, Release
from deploy.dev.installed import addresses
from deploy.dev.installed.cluster import InstallationCluster
from deploy.dev.kubectl import Kubectl
from deploy.dev.story import Narrator
from tests.chart import installed_rights
from tests.chart.installed_rights import Call, Right
from tests.support.kube import remove_store, require_binaries
from tests.support.open_reports import report_crd

RBAC = {
    "rolebindings": "RoleBinding",
    "clusterrolebindings": "ClusterRoleBinding",
    "roles": "Role",
    "clusterroles": "ClusterRole",
}

REGISTRIES = "registries"
"""A namespace with a registry's credentials, which the bootstrap reads."""

FOUND = ("moorgate-nats-users", "moorgate-nats-ca", "moorgate-nats-tls", "moorgate-webhook-path")
"""Secrets that somebody made before the install, empty: the hook fills them in."""

PAGE = "moorgate-page-tls"
"""The Secret with the page's certificate."""

LOG_LINES = 15


@dataclass(kw_only=True)
class Installation:
    """`helm install` and after."""

    cluster: InstallationCluster
    release: Release
    authority: trustme.CA = field(default_factory=trustme.CA)
    """Who signs the page's certificate."""

    def kubectl(self, namespace: str = "", user: str = "admin") -> Kubectl:
        """In the release's namespace, where no other is named."""
        return Kubectl(self.cluster.plane, namespace or self.cluster.namespace, user)

    async def helm(self, command: str, *options: str, **values: Any) -> str:
        """`install`, `upgrade` or `uninstall`, with values over those of the start. A failure quotes the containers' logs."""
        self.release = replace(self.release, values={**self.release.values, **values})
        try:
            return await asyncio.to_thread(getattr(self.release, command), *options)
        except HelmError as error:
            raise AssertionError(f"{error}\n{await self.state()}") from error

    async def prepare(self) -> None:
        """What a person makes before: namespaces, Anchore's administrator, a registry's credentials."""
        kubectl = self.kubectl()
        for namespace in (self.cluster.namespace, REGISTRIES):
            await kubectl.ok("create", "namespace", namespace)
        await kubectl.create(report_crd())
        await _secret(kubectl, "generic", "anchore-admin", "--from-literal=password=foobar")
        for name in FOUND:
            await _secret(kubectl, "generic", name)
        await _certificate(kubectl, self.authority, f"moorgate-page.{self.cluster.namespace}.svc")
        login = ("--docker-server=r.example", "--docker-username=u", "--docker-password=p")
        await _secret(self.kubectl(REGISTRIES), "docker-registry", "login", *login)

    async def state(self) -> str:
        """What a person would look at when something hangs."""
        pods = await self.kubectl().run("get", "pods,jobs", "-o", "wide")
        events = await self.kubectl().run("get", "events", "--field-selector=type=Warning")
        tails = [
            f"--- {file.name}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-LOG_LINES:])
            for file in sorted(self.cluster.logs.glob("*.log"))
        ]
        return "\n".join([pods.stdout, events.stdout, self.cluster.node.log_tail(), *tails])

    async def rights(self) -> list[Right]:
        """What the release's service accounts may do by whatever binding there is, and what hooks may while they run."""
        found = [each for kind in RBAC for each in await self.kubectl().get(kind, "--all-namespaces")]
        known = {_identity(each) for each in found}
        rendered = await asyncio.to_thread(self.release.template)
        hooks = [each for each in rendered if _is_hook(each) and each["kind"] in RBAC.values()]
        found += [each for each in hooks if _identity(each) not in known]
        bindings = [each for each in found if each["kind"].endswith("Binding")]
        roles = [each for each in found if each["kind"].endswith("Role")]
        return installed_rights.granted(bindings, roles, self.cluster.namespace)

    def calls(self) -> list[Call]:
        """What they did so far, as the API server wrote it down."""
        with self.cluster.audit_log.open("rb") as log:
            return installed_rights.calls(log.readlines())


@dataclass
class Silent(Narrator):
    """Keeps the story for whoever asks why it failed."""

    said: list[str] = field(default_factory=list)

    def chapter(self, title: str) -> None:
        self.said.append(f"## {title}")

    def says(self, text: str) -> None:
        self.said.append(text)

    def command(self, line: str) -> None:
        self.said.append(f"$ {line}")

    def output(self, text: str) -> None:
        self.said.append(text)

    def manifest(self, text: str) -> None:
        self.said.append(text)

    def holds(self, claim: str) -> None:
        self.said.append(f"so: {claim}")


@asynccontextmanager
async def open_installation(folder: Path, values: dict[str, Any]) -> AsyncIterator[Installation]:
    """A cluster, and the release as it will be installed."""
    require_root()
    require_binaries()
    async with InstallationCluster(folder=folder) as cluster:
        release = Release(
            namespace=cluster.namespace,
            kubeconfig=cluster.plane.kubeconfig(),
            values={**values, "anchore": {"url": cluster.anchore_url}},
        )
        try:
            yield Installation(cluster=cluster, release=release)
        finally:
            await cluster.node.stop()
    remove_store(cluster.plane.folder)


def require_root() -> None:
    """Skip without the rights to mount and to add addresses; in CI that is a failure."""
    if addresses.is_allowed():
        return
    message = "the installed chart is not tested: running its containers needs root, and iproute2"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


async def _secret(kubectl: Kubectl, *arguments: str) -> None:
    await kubectl.ok("create", "secret", *arguments)


async def _certificate(kubectl: Kubectl, authority: trustme.CA, name: str) -> None:
    issued = authority.issue_cert(name)
    with issued.private_key_and_cert_chain_pem.tempfile() as file:
        await _secret(kubectl, "tls", PAGE, f"--cert={file}", f"--key={file}")


def _identity(each: dict[str, Any]) -> tuple[str, str, str]:
    return each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]


def _is_hook(each: dict[str, Any]) -> bool:
    return "helm.sh/hook" in (each["metadata"].get("annotations") or {})
