"""The checks that ask the API server: kinds, registration, policies, whitelist, and how Moorgate itself is run.

Needs `list` of validatingwebhookconfigurations, namespaces, imagepolicies, whitelistitems, and in Moorgate's namespace of deployments
and poddisruptionbudgets; what one may not see is said.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import msgspec

from services.cli import rule_sources, whitelist_cluster
from services.cli.doctor import registration, rules
from services.cli.doctor.findings import Check, Finding, Severity
from services.cli.webhooks_cluster import PART_OF, PATH
from shared.cluster import Cluster, ListMeta, pages
from shared.contracts import TenantRecord
from shared.crds import API_VERSION
from shared.objects import ObjectMeta
from shared.settings import Environment

KINDS = {"Audit": True, "ImagePolicy": False, "WhiteListItem": False}
"""Whether each belongs to a namespace."""

COMPONENT = "app.kubernetes.io/component"


class _Kind(msgspec.Struct, frozen=True):
    name: str
    kind: str
    namespaced: bool


class _Kinds(msgspec.Struct, frozen=True):
    resources: tuple[_Kind, ...] = ()


class _Labelled(msgspec.Struct, frozen=True):
    metadata: ObjectMeta


class _Namespaces(msgspec.Struct, frozen=True):
    items: list[_Labelled]
    metadata: ListMeta = ListMeta()


class _Configurations(msgspec.Struct, frozen=True):
    items: list[registration.Configuration]


class _Variable(msgspec.Struct, frozen=True):
    name: str


class _Container(msgspec.Struct, frozen=True):
    name: str
    env: tuple[_Variable, ...] = ()


class _PodSpec(msgspec.Struct, frozen=True):
    containers: tuple[_Container, ...] = ()


class _Template(msgspec.Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


class _DeploymentSpec(msgspec.Struct, frozen=True):
    replicas: int = 1
    template: _Template = _Template()


class _DeploymentStatus(msgspec.Struct, frozen=True, rename="camel"):
    available_replicas: int = 0


class _Deployment(msgspec.Struct, frozen=True):
    metadata: ObjectMeta
    spec: _DeploymentSpec = _DeploymentSpec()
    status: _DeploymentStatus = _DeploymentStatus()

    @property
    def component(self) -> str:
        return self.metadata.labels.get(COMPONENT, "")

    @property
    def variables(self) -> set[str]:
        return {each.name for container in self.spec.template.spec.containers for each in container.env}


class _Deployments(msgspec.Struct, frozen=True):
    items: list[_Deployment]


class _Budgets(msgspec.Struct, frozen=True):
    items: list[_Labelled]


class ClusterChecks:
    """All of them on one API server."""

    def __init__(
        self,
        cluster: Cluster,
        environment: Environment,
        namespace: str,
        tenants: Mapping[str, TenantRecord] | None,
    ) -> None:
        """`tenants`: as NATS has them; None where it could not be asked."""
        self._cluster = cluster
        self._environment = environment
        self._namespace = namespace
        self._tenants = tenants

    @property
    def all(self) -> list[tuple[str, Check]]:
        """By name."""
        return [
            ("kinds", self.kinds),
            (registration.CHECK, self.registration),
            (rules.POLICIES, self.policies),
            (rules.WHITELIST, self.whitelist),
            ("deployments", self.deployments),
        ]

    async def kinds(self) -> list[Finding]:
        """Whether the API server knows what Moorgate writes and reads."""
        found = await self._cluster.get(f"/apis/{API_VERSION}", msgspec.json.Decoder(_Kinds))
        there = {each.kind: each.namespaced for each in found.resources} if found else {}
        missing = [kind for kind in KINDS if kind not in there]
        mend = "helm upgrade with crds.install=true, or apply the chart's CustomResourceDefinitions"
        findings = []
        if missing:
            what = f"the cluster does not know {', '.join(missing)}: nothing of them is read or recorded"
            findings.append(Finding("kinds", Severity.ERROR, what, mend))
        if there.get("Audit") is False:
            what = "Audits are those of the Anchore Image Validator, which belong to no namespace: nothing can be recorded"
            findings.append(Finding("kinds", Severity.ERROR, what, "see docs/migrating.md"))
        return findings

    async def registration(self) -> list[Finding]:
        """Whether gateways are asked, trusted, and nothing is locked out."""
        answer = await self._cluster.request("GET", PATH)
        found = msgspec.json.decode(answer, type=_Configurations).items
        return registration.findings(found, await self._namespaces(), self._namespace, datetime.now(UTC))

    async def policies(self) -> list[Finding]:
        """Whether each is in force, and is ever asked."""
        found = await rule_sources.policies(self._cluster, self._environment)
        tenants = self._tenants.get if self._tenants is not None else None
        return list(rules.of_policies(found, await self._namespaces(), tenants))

    async def whitelist(self) -> list[Finding]:
        """Whether each item lets through what it means."""
        return list(rules.of_whitelist(await whitelist_cluster.items(self._cluster), datetime.now(UTC)))

    async def deployments(self) -> list[Finding]:
        """Whether one node less is borne."""
        query = {"labelSelector": PART_OF}
        path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments"
        answer = await self._cluster.request("GET", path, query=query)
        found = msgspec.json.decode(answer, type=_Deployments).items
        if not found:
            what = f"no Deployment of Moorgate is in the namespace {self._namespace}"
            return [Finding("deployments", Severity.WARNING, what, "name the one it runs in: --namespace")]
        path = f"/apis/policy/v1/namespaces/{self._namespace}/poddisruptionbudgets"
        answer = await self._cluster.request("GET", path, query=query)
        budgets = {
            each.metadata.labels.get(COMPONENT, "")
            for each in msgspec.json.decode(answer, type=_Budgets).items
        }
        return [
            finding
            for each in found
            for finding in _of_deployment(each, has_budget=each.component in budgets)
        ]

    async def _namespaces(self) -> dict[str, Mapping[str, str]]:
        """Labels by name."""
        listed = pages(self._cluster, "/api/v1/namespaces", msgspec.json.Decoder(_Namespaces).decode)
        return {each.metadata.name: each.metadata.labels async for page in listed for each in page.items}


def _of_deployment(deployment: _Deployment, *, has_budget: bool) -> Iterator[Finding]:
    name, replicas = deployment.metadata.name, deployment.spec.replicas
    if deployment.status.available_replicas < replicas:
        yield Finding(
            "deployments",
            Severity.ERROR,
            f"{name}: {deployment.status.available_replicas} of {replicas} replicas are available",
            f"kubectl describe deployment {name}, and the log of its Pods",
        )
    if deployment.component != "gateway":
        return
    if replicas <= 1:
        what = f"{name} has {replicas} replica: with its node every Pod of the cluster is held up"
        yield Finding("deployments", Severity.WARNING, what, "set gateway.replicas to 2 or more")
    elif not has_budget:
        what = f"{name} has no PodDisruptionBudget: draining nodes may stop all gateways at once"
        yield Finding("deployments", Severity.WARNING, what, "helm upgrade: the chart makes one")
    if "MOORGATE_OUTBOX_DIR" not in deployment.variables:
        what = f"{name} keeps decisions in memory alone: a kill while NATS is away loses them"
        yield Finding(
            "deployments",
            Severity.WARNING,
            what,
            "set MOORGATE_OUTBOX_DIR to a folder that outlives the container",
        )
