"""The chart's ValidatingAdmissionPolicies on a real API server: who is refused what, and who never is.

Both people of these tests may do everything by RBAC; only one of them has the verbs that the guards ask for. What is refused
is refused in a guard's own words, so that a guard that is gone shows as an answer that is another.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.helm import Release
from deploy.dev.kubectl import Answer, Kubectl
from tests.support.road import until

CA, OTHER_CA = "Zmlyc3Q=", "c2Vjb25k"
GUARDS = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
OPT_OUT, OPT_IN, KEPT = "moorgate.test/unchecked", "moorgate.test/team", "moorgate.test/env"
STAGE = "moorgate.test/stage"
BY_NAME = "kubernetes.io/metadata.name"
"""The API server puts it on every namespace."""

GONE = {"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "00000000-0000-4000-8000-000000000000"}
"""An owner that is not there: whoever has no other is collected."""


def rendered(name: str, **values: Any) -> list[dict[str, Any]]:
    """The guards of a release in a namespace of its own."""
    usual = {
        "anchore": {"url": "http://anchore.test:8228"},
        "webhooks": {
            "excludedNamespaces": [f"{name}-storage"],
            "namespaceSelector": {
                "matchExpressions": [
                    {"key": OPT_OUT, "operator": "DoesNotExist"},
                    {"key": OPT_IN, "operator": "Exists"},
                    {"key": STAGE, "operator": "NotIn", "values": ["dev"]},
                    {"key": BY_NAME, "operator": "NotIn", "values": [f"{name}-lab"]},
                ]
            },
        },
    }
    release = Release(name=name, namespace=name, values={**usual, **values})
    return [
        each
        for each in release.template("--set", f"fullnameOverride={name}")
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "guards"
    ]


@dataclass
class Guarded:
    """Guards in force, and people."""

    admin: Kubectl
    name: str
    made: list[str] = field(default_factory=list)

    async def as_(self, user: str, *arguments: str, stdin: object = None) -> Answer:
        return await self.admin.run("--as", user, *arguments, stdin=stdin)

    @property
    def somebody(self) -> str:
        return f"{self.name}-somebody"

    @property
    def chief(self) -> str:
        return f"{self.name}-chief"

    @property
    def leader(self) -> str:
        return f"system:serviceaccount:{self.name}:{self.name}-gateway"

    @property
    def registrar(self) -> str:
        return f"system:serviceaccount:{self.name}:{self.name}-webhooks"

    def configuration(self, kind: str = "pods", **metadata: Any) -> dict[str, Any]:
        """One that meets nobody."""
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": f"{self.name}-{kind}", **metadata},
            "webhooks": [
                {
                    "name": f"{kind}.moorgate.test",
                    "clientConfig": {"url": "https://127.0.0.1:1/imagecheck", "caBundle": CA},
                    "rules": [],
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        }

    async def install(self, objects: list[dict[str, Any]]) -> None:
        for each in objects:
            await self.admin.create(each)
            self.made.append(f"{each['kind']}/{each['metadata']['name']}")

    async def orphan(self, user: str, target: str) -> Answer:
        """Have the garbage collector remove it: give it an owner that is not there. Tried only."""
        patch = json.dumps({"metadata": {"ownerReferences": [GONE]}})
        return await self.as_(user, "patch", target, "--dry-run=server", "--type=merge", "--patch", patch)

    async def patch(self, user: str, name: str, *operations: dict[str, Any]) -> Answer:
        """A JSON patch of a webhook configuration, tried only."""
        patch = str(list(operations)).replace("'", '"')
        return await self.as_(user, "patch", f"validatingwebhookconfiguration/{name}", "--dry-run=server",
                              "--type=json", "--patch", patch)  # fmt: skip


RIGHTS = [
    {
        "apiGroups": ["admissionregistration.k8s.io"],
        "resources": ["validatingwebhookconfigurations"],
        "verbs": ["get", "list", "create", "update", "patch", "delete", "deletecollection"],
    },
    {
        "apiGroups": [""],
        "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
        "verbs": ["get", "list", "create", "update", "patch", "delete"],
    },
    {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles"],
        "verbs": ["get", "list", "delete", "deletecollection", "update", "patch"],
    },
    {
        "apiGroups": ["security.banzaicloud.com"],
        "resources": ["whitelistitems", "imagepolicies", "imagepolicies/status"],
        "verbs": ["get", "list", "create", "update", "patch", "delete"],
    },
]
VIRTUAL = [
    {
        "apiGroups": ["security.banzaicloud.com"],
        "resources": ["imagepolicies"],
        "verbs": ["exempt", "approve"],
    },
    {"apiGroups": ["security.banzaicloud.com"], "resources": ["whitelistitems"], "verbs": ["approve"]},
]


def people(guarded: Guarded) -> list[dict[str, Any]]:
    """Both with the rights to write, one with the verbs that are nobody's but the guards'."""
    everybody = [guarded.somebody, guarded.chief, guarded.leader, guarded.registrar]
    roles = {"writers": (RIGHTS, everybody), "chiefs": (VIRTUAL, [guarded.chief])}
    found: list[dict[str, Any]] = []
    for role, (rules, users) in roles.items():
        metadata = {"name": f"{guarded.name}-{role}"}
        group = "rbac.authorization.k8s.io"
        found += [
            {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules},
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": metadata["name"]},
                "subjects": [{"apiGroup": group, "kind": "User", "name": user} for user in users],
            },
        ]
    return found


@pytest.fixture(scope="module")
def guarded(control_plane: ControlPlane) -> Iterator[Guarded]:
    """The guards of one release, in force."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        found = Guarded(Kubectl(control_plane), f"guards-{secrets.token_hex(3)}")
        try:
            runner.run(_set_up(found))
            yield found
        finally:
            runner.run(_tear_down(found))


async def _set_up(guarded: Guarded) -> None:
    more = {"namespaces": {"enabled": True, "labels": [KEPT, BY_NAME]}}
    await guarded.install(people(guarded))
    await guarded.install([guarded.configuration("pods"), guarded.configuration("workloads")])
    await guarded.install(rendered(guarded.name, guards=more))

    async def all_in_force() -> bool:
        """One refusal of each, asked for without leaving anything behind."""
        tries = [
            guarded.patch(guarded.leader, f"{guarded.name}-pods", replaced("/webhooks/0/failurePolicy", "Ignore")),
            guarded.as_(guarded.somebody, "delete", "--dry-run=server",
                        f"validatingwebhookconfiguration/{guarded.name}-pods"),
            guarded.as_(guarded.somebody, "create", "ns", f"{guarded.name}-storage", "--dry-run=server"),
            guarded.as_(guarded.somebody, "create", "--dry-run=server", "-f", "-", stdin=item("a", "b")),
            guarded.as_(guarded.somebody, "create", "--dry-run=server", "-f", "-", stdin=policy("a")),
        ]  # fmt: skip
        return all(answer.code for answer in await asyncio.gather(*tries))

    await until(all_in_force, "the guards are in force", 60)


async def _tear_down(guarded: Guarded) -> None:
    for each in reversed(guarded.made):
        await guarded.admin.ok("delete", each, "--ignore-not-found", "--wait=false")


def replaced(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def added(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def item(name: str, creator: str) -> dict[str, Any]:
    return {
        "apiVersion": "security.banzaicloud.com/v1alpha1",
        "kind": "WhiteListItem",
        "metadata": {"name": name},
        "spec": {"creator": creator, "reason": "a test"},
    }


def policy(name: str, mode: str = "audit") -> dict[str, Any]:
    return {
        "apiVersion": "security.banzaicloud.com/v1alpha1",
        "kind": "ImagePolicy",
        "metadata": {"name": name},
        "spec": {"mode": mode, "namespaceSelector": {"matchLabels": {"moorgate.test/nobody": "true"}}},
    }


def refused(answer: Answer, words: str) -> None:
    assert answer.code != 0, f"granted: {answer.stdout}"
    assert words in answer.stderr, answer.stderr


def granted(answer: Answer) -> None:
    assert answer.code == 0, answer.stderr


async def test_the_leader_may_change_the_bundle(guarded: Guarded) -> None:
    path = "/webhooks/0/clientConfig/caBundle"
    for kind in ("pods", "workloads"):
        granted(await guarded.patch(guarded.leader, f"{guarded.name}-{kind}", replaced(path, OTHER_CA)))


@pytest.mark.parametrize(
    "operation",
    [
        replaced("/webhooks/0/failurePolicy", "Ignore"),
        replaced("/webhooks/0/clientConfig/url", "https://127.0.0.1:2/elsewhere"),
        replaced("/webhooks/0/timeoutSeconds", 1),
        replaced("/webhooks/0/name", "another.moorgate.test"),
        added("/webhooks/0/matchConditions", [{"name": "never", "expression": "false"}]),
        added("/webhooks/0/objectSelector", {"matchLabels": {"never": "true"}}),
        added("/metadata/labels", {"x": "y"}),
        added("/metadata/ownerReferences", [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "y"}]),
        {"op": "remove", "path": "/webhooks/0"},
        {"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"},
    ],
    ids=lambda each: f"{each['op']} {each['path']}",
)
async def test_the_leader_may_change_nothing_else(guarded: Guarded, operation: dict[str, Any]) -> None:
    both = [operation, replaced("/webhooks/0/clientConfig/caBundle", OTHER_CA)]
    operations = both if operation["op"] != "remove" else [operation]
    refused(
        await guarded.patch(guarded.leader, f"{guarded.name}-pods", *operations),
        "this account may change caBundle",
    )


async def test_the_leader_touches_no_other_configuration(guarded: Guarded) -> None:
    await guarded.install([guarded.configuration("of-others")])
    name = f"{guarded.name}-of-others"
    words = "this account keeps caBundle"
    path = "/webhooks/0/clientConfig/caBundle"
    refused(await guarded.patch(guarded.leader, name, replaced(path, OTHER_CA)), words)
    away = ("delete", f"validatingwebhookconfiguration/{guarded.name}-pods")
    refused(await guarded.as_(guarded.leader, *away), "ValidatingAdmissionPolicy")
    new = guarded.configuration("new")
    refused(await guarded.as_(guarded.leader, "create", "-f", "-", stdin=new), words)
    granted(await guarded.patch(guarded.somebody, name, replaced(path, OTHER_CA)))


async def test_the_registration_is_kept_from_people(guarded: Guarded) -> None:
    words = "are kept by Moorgate"
    change = replaced("/webhooks/0/failurePolicy", "Ignore")
    for kind in ("pods", "workloads"):
        name = f"{guarded.name}-{kind}"
        refused(await guarded.patch(guarded.somebody, name, change), words)
        target = f"validatingwebhookconfiguration/{name}"
        refused(await guarded.as_(guarded.somebody, "delete", target, "--dry-run=server"), words)
        granted(await guarded.patch(guarded.chief, name, change))
        granted(await guarded.as_(guarded.chief, "delete", target, "--dry-run=server"))
        granted(await guarded.admin.run("delete", target, "--dry-run=server"))


async def test_all_at_once_is_no_way_around(guarded: Guarded) -> None:
    everything = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations?dryRun=All"
    selected = f"{everything}&fieldSelector=metadata.name%3D{guarded.name}-pods"
    refused(await guarded.as_(guarded.somebody, "delete", "--raw", selected), "are kept by Moorgate")


async def test_the_collector_takes_the_registration_along(guarded: Guarded) -> None:
    """An uninstall: the owner goes, and with it what it owns, whoever guards it."""
    owner = f"{guarded.name}-owner"
    await guarded.admin.ok("create", "clusterrole", owner, "--verb=get", "--resource=pods")
    uid = await guarded.admin.ok("get", "clusterrole", owner, "-o", "jsonpath={.metadata.uid}")
    name, collector = (
        f"{guarded.name}-workloads",
        "system:serviceaccount:kube-system:generic-garbage-collector",
    )
    granted(
        await guarded.as_(collector, "delete", f"validatingwebhookconfiguration/{name}", "--dry-run=server")
    )
    reference = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "name": owner,
        "uid": uid,
    }
    patch = str({"metadata": {"ownerReferences": [reference]}}).replace("'", '"')
    await guarded.admin.ok(
        "patch", f"validatingwebhookconfiguration/{name}", "--type=merge", "--patch", patch
    )
    await guarded.admin.ok("delete", "clusterrole", owner)
    await guarded.admin.wait("delete", f"validatingwebhookconfiguration/{name}", seconds=60)
    await guarded.install([guarded.configuration("workloads")])


async def test_names_that_are_left_out_are_not_everybodys(guarded: Guarded) -> None:
    name = f"{guarded.name}-storage"
    new = ("create", "namespace", name, "--dry-run=server")
    refused(await guarded.as_(guarded.somebody, *new), "does not look at a namespace of this name")
    granted(await guarded.as_(guarded.chief, *new))
    granted(await guarded.as_(guarded.somebody, "create", "namespace", f"{name}-2", "--dry-run=server"))
    by_selector = ("create", "namespace", f"{guarded.name}-lab", "--dry-run=server")
    refused(await guarded.as_(guarded.somebody, *by_selector), "does not look at a namespace of this name")


@pytest.fixture
async def watched(guarded: Guarded) -> AsyncIterator[str]:
    """A namespace that bears the labels."""
    name = f"{guarded.name}-{secrets.token_hex(3)}"
    labels = {OPT_IN: "a", KEPT: "prod"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    await guarded.admin.create(manifest)
    yield name
    await guarded.admin.ok("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize(
    "change", [f"{OPT_OUT}=true", f"{OPT_IN}-", f"{OPT_IN}=b", f"{KEPT}=dev", f"{KEPT}-", f"{STAGE}=dev"]
)
async def test_labels_that_choose_are_kept(guarded: Guarded, watched: str, change: str) -> None:
    label = ("label", "--overwrite", "--dry-run=server", f"namespace/{watched}")
    refused(await guarded.as_(guarded.somebody, *label, change), "knows what to look at")
    granted(await guarded.as_(guarded.chief, *label, change))
    granted(await guarded.as_(guarded.somebody, *label, "harmless=true"))


async def test_a_namespace_is_not_made_with_a_way_out(guarded: Guarded) -> None:
    for label, value, is_free in (
        (OPT_OUT, "true", False),
        (KEPT, "true", False),
        (OPT_IN, "true", True),
        (STAGE, "dev", False),
        (STAGE, "prod", True),
    ):
        metadata = {"name": f"{guarded.name}-made", "labels": {label: value}}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        new = ("create", "--dry-run=server", "-f", "-")
        answer = await guarded.as_(guarded.somebody, *new, stdin=manifest)
        granted(answer) if is_free else refused(answer, "knows what to look at")
        granted(await guarded.as_(guarded.chief, *new, stdin=manifest))


async def test_a_subresource_is_no_way_around(guarded: Guarded, watched: str) -> None:
    for way in ("status", "finalize"):
        path = f"/api/v1/namespaces/{watched}/{way}?dryRun=All"
        namespace = json.loads(await guarded.admin.ok("get", "namespace", watched, "-o", "json"))
        for user, is_free in ((guarded.somebody, False), (guarded.chief, True)):
            granted(await guarded.as_(user, "replace", "--raw", path, "-f", "-", stdin=namespace))
            changed = {**namespace["metadata"]["labels"], OPT_OUT: "true"}
            out = {**namespace, "metadata": {**namespace["metadata"], "labels": changed}}
            answer = await guarded.as_(user, "replace", "--raw", path, "-f", "-", stdin=out)
            granted(answer) if is_free else refused(answer, "knows what to look at")


async def test_the_owner_of_the_registration_is_kept(guarded: Guarded) -> None:
    owner, other = f"{guarded.name}-webhooks", f"{guarded.name}-other"
    for name in (owner, other):
        await guarded.admin.ok("create", "clusterrole", name, "--verb=get", "--resource=namespaces")
        guarded.made.append(f"clusterrole/{name}")
    away = ("delete", "clusterrole", owner, "--dry-run=server")
    refused(await guarded.as_(guarded.somebody, *away), "go with it")
    everything = "/apis/rbac.authorization.k8s.io/v1/clusterroles?dryRun=All"
    selected = f"{everything}&fieldSelector=metadata.name%3D{owner}"
    refused(await guarded.as_(guarded.somebody, "delete", "--raw", selected), "go with it")
    granted(await guarded.as_(guarded.chief, *away))
    granted(await guarded.as_(guarded.somebody, "delete", "clusterrole", other, "--dry-run=server"))
    for user, name, is_free in (
        (guarded.somebody, owner, False),
        (guarded.chief, owner, True),
        (guarded.somebody, other, True),
    ):
        answer = await guarded.orphan(user, f"clusterrole/{name}")
        granted(answer) if is_free else refused(answer, "go with it")
    granted(await guarded.as_(guarded.somebody, "label", f"clusterrole/{owner}", "harmless=true"))


@pytest.mark.parametrize(
    ("kind", "client", "words"),
    [
        ("another", {"service": "gateway", "namespace": "own"}, "two webhook configurations and no other"),
        ("pods", {"url": "https://127.0.0.1:1/"}, "nobody else"),
        ("pods", {"service": "listener", "namespace": "own"}, "nobody else"),
        ("pods", {"service": "gateway", "namespace": "elsewhere"}, "nobody else"),
        ("pods", {"service": "gateway", "namespace": "own"}, ""),
    ],
    ids=["another configuration", "an address", "another Service", "another namespace", "its own"],
)
async def test_the_registrar_registers_its_own_gateways_and_nobody_else(
    guarded: Guarded, kind: str, client: dict[str, str], words: str
) -> None:
    config: dict[str, Any] = dict(client)
    if "service" in client:
        namespace = guarded.name if client["namespace"] == "own" else client["namespace"]
        service = {"name": f"{guarded.name}-{client['service']}", "namespace": namespace}
        config = {"service": service, "caBundle": CA}
    change = replaced("/webhooks/0/clientConfig", config)
    if kind == "another":
        new = guarded.configuration(kind)
        new["webhooks"][0]["clientConfig"] = config
        answer = await guarded.as_(guarded.registrar, "create", "--dry-run=server", "-f", "-", stdin=new)
    else:
        answer = await guarded.patch(guarded.registrar, f"{guarded.name}-{kind}", change)
    refused(answer, words) if words else granted(answer)


@pytest.mark.parametrize("kind", ["whitelistitem", "imagepolicy"])
async def test_what_lets_in_wants_a_right_of_its_own(guarded: Guarded, kind: str) -> None:
    name = f"{guarded.name}-{kind}"
    content = item(name, guarded.chief) if kind == "whitelistitem" else policy(name)
    refused(await guarded.as_(guarded.somebody, "create", "-f", "-", stdin=content), "`approve`")
    granted(await guarded.as_(guarded.chief, "create", "-f", "-", stdin=content))
    guarded.made.append(f"{kind}/{name}")
    spec = '{"spec": {"reason": "another"}}' if kind == "whitelistitem" else '{"spec": {"mode": "off"}}'
    change = ("patch", f"{kind}/{name}", "--type=merge", "--patch", spec)
    refused(await guarded.as_(guarded.somebody, *change), "`approve`")
    granted(await guarded.as_(guarded.chief, *change))
    granted(await guarded.as_(guarded.somebody, "label", f"{kind}/{name}", "harmless=true"))
    ways = [
        await guarded.as_(guarded.somebody, "delete", f"{kind}/{name}", "--dry-run=server"),
        await guarded.orphan(guarded.somebody, f"{kind}/{name}"),
    ]
    for answer in ways:
        granted(answer) if kind == "whitelistitem" else refused(answer, "`approve`")
    granted(await guarded.orphan(guarded.chief, f"{kind}/{name}"))


async def test_conditions_of_a_policy_are_the_gateways(guarded: Guarded) -> None:
    name = f"{guarded.name}-status"
    granted(await guarded.as_(guarded.chief, "create", "-f", "-", stdin=policy(name)))
    guarded.made.append(f"imagepolicy/{name}")
    status = '{"status": {"observedGeneration": 1}}'
    change = ("patch", f"imagepolicy/{name}", "--subresource=status", "--type=merge", "--patch", status)
    granted(await guarded.as_(guarded.leader, *change))


async def test_a_wrong_creator_is_warned_of(guarded: Guarded) -> None:
    new = ("create", "--dry-run=server", "-f", "-")
    right = await guarded.as_(guarded.chief, *new, stdin=item("right", guarded.chief))
    granted(right)
    assert "spec.creator" not in right.stderr
    wrong = await guarded.as_(guarded.chief, *new, stdin=item("wrong", "Jo"))
    granted(wrong)
    assert f"spec.creator is not who asks: it should be {guarded.chief}" in wrong.stderr


async def test_a_wrong_creator_is_refused_where_the_values_say_so(control_plane: ControlPlane) -> None:
    strict = Guarded(Kubectl(control_plane), f"strict-{secrets.token_hex(3)}")
    off = {name: {"enabled": False} for name in ("caBundle", "webhooks", "namespaces", "exceptions")}
    objects = rendered(strict.name, guards={**off, "creator": {"actions": ["Deny"]}, "approverRole": False})
    assert [each["kind"] for each in objects] == list(GUARDS), "each guard has its own switch"
    try:
        await strict.install(people(strict))
        await strict.install(objects)
        new = ("create", "--dry-run=server", "-f", "-")

        async def is_refused() -> bool:
            answer = await strict.as_(strict.chief, *new, stdin=item("wrong", "Jo"))
            return answer.code != 0 and "spec.creator is not who asks" in answer.stderr

        await until(is_refused, "a wrong creator is refused", 60)
        granted(await strict.as_(strict.chief, *new, stdin=item("right", strict.chief)))
    finally:
        await _tear_down(strict)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"tls": {"issuer": "cert-manager", "certManager": {"issuerName": "ca"}}},
        {"tls": {"issuer": "secret", "existingSecret": "tls"}},
        {"webhooks": {"enabled": False}},
    ],
    ids=["self", "cert-manager", "secret", "unregistered"],
)
async def test_every_rendering_is_one_that_the_api_server_takes(
    control_plane: ControlPlane, values: dict[str, Any]
) -> None:
    name = f"dry-{secrets.token_hex(3)}"
    objects = rendered(name, **values)
    assert ("webhooks" in values) == (
        f"{name}-webhooks-kept" not in {each["metadata"]["name"] for each in objects}
    )
    for each in objects:
        await Kubectl(control_plane).ok("create", "--dry-run=server", "-f", "-", stdin=each)
