"""The manifests in the chart and the Structs say the same; the API server takes and refuses as promised."""

import re
import types
import typing
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deploy.dev.controlplane import ControlPlane
from services.gateway.image_policies import PolicyCondition
from shared import crds
from shared.contracts import Mode, OwnerClaim
from shared.crds import Audit, WhiteListItem, label_value, owner_audit_name, pod_audit_name
from shared.policies import LabelSelector, OnError, OnPending, PolicySpec, Requirement
from tests.support.kube import Kubectl

FOLDER = Path(__file__).parents[2] / "deploy/helm/moorgate/files/crds"
KINDS: list[tuple[str, type[msgspec.Struct]]] = [("audits", Audit), ("whitelistitems", WhiteListItem)]
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def manifest(plural: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / f"{plural}.yaml").read_text(encoding="utf-8"))
    return loaded


def schema(plural: str) -> dict[str, Any]:
    [version] = manifest(plural)["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def of_struct(kind: Any) -> Any:
    """A type as a schema would say it, without what only a schema can say."""
    if typing.get_origin(kind) is typing.Annotated:
        return of_struct(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        [only] = [each for each in typing.get_args(kind) if each is not type(None)]
        return of_struct(only)
    if typing.get_origin(kind) is tuple:
        return [of_struct(typing.get_args(kind)[0])]
    if issubclass(kind, StrEnum):
        return {each.value for each in kind}
    if issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind, include_extras=True)
        fields = msgspec.structs.fields(kind)
        return {each.encode_name: of_struct(hints[each.name]) for each in fields}
    return {str: "string", bool: "boolean", datetime: "date-time"}[kind]


def of_schema(node: dict[str, Any]) -> Any:
    """A schema, in the same words."""
    if node["type"] == "array":
        assert node["x-kubernetes-list-type"] == "atomic"
        return [of_schema(node["items"])]
    if node["type"] == "object":
        return {name: of_schema(each) for name, each in node["properties"].items()}
    return node.get("format", node["type"])


@pytest.mark.parametrize(("plural", "kind"), KINDS)
@pytest.mark.parametrize("part", ["spec", "status"])
def test_manifest_and_struct_have_the_same_fields(plural: str, kind: type[msgspec.Struct], part: str) -> None:
    hints = typing.get_type_hints(kind)
    if part not in hints:
        assert part not in schema(plural)["properties"]
        return
    says, means = of_schema(schema(plural)["properties"][part]), of_struct(hints[part])
    assert says == _without_enums(means)


def _without_enums(node: Any) -> Any:
    if isinstance(node, set):
        return "string"
    if isinstance(node, list):
        return [_without_enums(each) for each in node]
    if isinstance(node, dict):
        return {name: _without_enums(each) for name, each in node.items()}
    return node


def test_enums_are_those_of_the_structs() -> None:
    status = schema("audits")["properties"]["status"]["properties"]
    transition = status["transitions"]["items"]["properties"]
    states = {each.value for each in crds.AuditState}
    assert set(status["state"]["enum"]) == set(transition["state"]["enum"]) == states
    assert status["transitions"]["maxItems"] == crds.MAX_TRANSITIONS


@pytest.mark.parametrize(("plural", "kind"), KINDS)
def test_names_and_texts(plural: str, kind: type[msgspec.Struct]) -> None:
    spec = manifest(plural)["spec"]
    assert (spec["group"], spec["versions"][0]["name"]) == (crds.GROUP, crds.VERSION)
    assert spec["names"]["kind"] == kind.__name__
    assert "subresources" not in spec["versions"][0]
    for path, node in _described(schema(plural)["properties"]["spec"], "spec"):
        assert node.get("description"), f"{path} has no description"


def _described(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _described(child, f"{path}.{name}")
    for name, child in node.get("items", {}).get("properties", {}).items():
        yield from _described(child, f"{path}[].{name}")


def columns(plural: str) -> list[str]:
    return [each["name"] for each in manifest(plural)["spec"]["versions"][0]["additionalPrinterColumns"]]


def test_columns() -> None:
    at_a_glance = ["Release", "Action", "Images", "Result", "State", "Age"]
    assert columns("audits") == [*at_a_glance, "Last Seen", "Policy", "User", "Reason"]
    assert columns("whitelistitems") == ["Creator", "Reason", "Expires", "Age"]


@pytest.mark.parametrize(
    ("api_version", "kind", "name", "audit"),
    [
        ("apps/v1", "ReplicaSet", "web-5cd466fccb", "replicaset-web-5cd466fccb"),
        ("apps/v1", "StatefulSet", "db", "statefulset-db"),
        ("batch/v1", "Job", "backup-28", "job-backup-28"),
        ("v1", "ReplicationController", "old.web", "replicationcontroller-old.web"),
        ("v1", "Node", "node-1", "node-node-1-d39035f7"),
        ("v1", "Pod", "web", "pod-web-ec7c2926"),
        ("argoproj.io/v1alpha1", "Rollout", "web", "rollout-web-5e29cdd2"),
        ("example.org/v1", "Rollout", "web", "rollout-web-eca3eafe"),
    ],
)
def test_audits_are_named_after_owners(api_version: str, kind: str, name: str, audit: str) -> None:
    assert owner_audit_name(OwnerClaim(api_version=api_version, kind=kind, name=name, uid="u")) == audit


def test_a_kind_keeps_its_audits_through_its_versions() -> None:
    old = OwnerClaim(api_version="argoproj.io/v1alpha1", kind="Rollout", name="web", uid="u")
    assert owner_audit_name(old) == owner_audit_name(
        msgspec.structs.replace(old, api_version="argoproj.io/v1")
    )


def test_audits_are_named_after_pods() -> None:
    assert pod_audit_name("web") == "pod-web"
    long = [pod_audit_name("w" * 252 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert all(len(name) <= crds.MAX_NAME for name in long)


@given(st.text(), st.text(), st.sampled_from(["apps/v1", "v1", "x.example/v1", ""]))
def test_any_text_makes_a_name_the_api_server_takes(kind: str, name: str, api_version: str) -> None:
    owner = OwnerClaim(api_version=api_version, kind=kind, name=name, uid="u")
    for made in (owner_audit_name(owner), pod_audit_name(name)):
        assert DNS_SUBDOMAIN.fullmatch(made)
        assert len(made) <= crds.MAX_NAME


@given(st.text(max_size=80))
def test_any_text_makes_a_label_value(text: str) -> None:
    assert re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", label_value(text), re.ASCII)


def test_a_release_that_is_a_label_value_stays_readable() -> None:
    assert label_value("web-1.2_x") == "web-1.2_x"
    assert label_value("r" * 64) != label_value("r" * 65)


@pytest.fixture
def served(control_plane: ControlPlane) -> Kubectl:
    """The kinds, served by a real API server: the session's control plane installs them at its start."""
    return Kubectl(control_plane)


def item(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": crds.API_VERSION,
        "kind": "WhiteListItem",
        "metadata": {"name": "test-whitelist"},
        "spec": spec,
    }


ORIGINAL = {"creator": "pbalogh-sa", "reason": "just-testing", "regexp": "whitelisted-[test1|test2]?.[a-z]+"}


@pytest.mark.parametrize(
    "spec",
    [
        ORIGINAL,
        {"creator": "alice", "reason": "hotfix"},
        {"reason": "hotfix", "regexp": "web-(blue|green)", "expiresAt": "2027-01-01T00:00:00Z"},
        {"reason": "hotfix", "namespaces": ["shop"], "images": ["docker.io/library/nginx:*"]},
        {"reason": "hotfix", "regexp": "x{2,1000}"},
    ],
)
async def test_the_api_server_takes(served: Kubectl, spec: dict[str, Any]) -> None:
    assert msgspec.convert({"metadata": {}, "spec": spec}, WhiteListItem).spec.reason
    await served.ok("create", "--dry-run=server", "-f", "-", stdin=item(**spec))


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ({"creator": "alice"}, "spec.reason is required"),
        ({"reason": "  "}, "spec.reason is required"),
        ({"reason": "x", "regexp": ""}, "spec.regexp is empty"),
        ({"reason": "x", "regexp": "web-("}, "error parsing regexp"),
        ({"reason": "x", "regexp": "(?=web)"}, "error parsing regexp"),
        ({"reason": "x", "regexp": "a" * 1025}, "Too long"),
        ({"reason": "x", "namespaces": ["Shop"]}, "spec.namespaces[0]"),
        ({"reason": "x", "images": [""]}, "spec.images[0]"),
        ({"reason": "x", "expiresAt": "tomorrow"}, "spec.expiresAt"),
        ({"reason": 5}, "spec.reason"),
    ],
)
async def test_the_api_server_refuses(served: Kubectl, spec: dict[str, Any], answer: str) -> None:
    said = await served.run("create", "--dry-run=server", "-f", "-", stdin=item(**spec))
    assert said.code != 0
    assert answer in said.stderr


async def test_columns_and_short_names_are_served(served: Kubectl) -> None:
    await served.create(item(**ORIGINAL, expiresAt="2099-01-01T00:00:00Z"))
    try:
        listed = await served.ok("get", "wl", "test-whitelist")
    finally:
        await served.ok("delete", "wl", "test-whitelist")
    assert listed.split()[:5] == ["NAME", "CREATOR", "REASON", "EXPIRES", "AGE"]
    assert "2099-01-01T00:00:00Z" in listed


def test_the_image_policy_manifest_says_what_its_struct_reads() -> None:
    """Its list of conditions is a map, and its labels are free: the rest is compared as with the others."""
    spec = schema("imagepolicies")["properties"]["spec"]["properties"]
    fields = {each.encode_name: each for each in msgspec.structs.fields(PolicySpec)}
    assert set(spec) == set(fields)
    for name, enum in (("mode", Mode), ("onPending", OnPending), ("onError", OnError)):
        assert set(spec[name]["enum"]) == {each.value for each in enum}
    for name in ("priority", "mode", "tenant", "onPending", "onError"):
        assert fields[name].default == spec[name]["default"], name
    selector = spec["namespaceSelector"]["properties"]
    assert set(selector) == {each.encode_name for each in msgspec.structs.fields(LabelSelector)}
    expression = selector["matchExpressions"]["items"]["properties"]
    assert set(expression) == {each.encode_name for each in msgspec.structs.fields(Requirement)}
    condition = schema("imagepolicies")["properties"]["status"]["properties"]["conditions"]["items"]
    assert set(condition["properties"]) == {
        each.encode_name for each in msgspec.structs.fields(PolicyCondition)
    }
    assert manifest("imagepolicies")["spec"]["versions"][0]["subresources"] == {"status": {}}
