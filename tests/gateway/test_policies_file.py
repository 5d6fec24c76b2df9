"""Policies from a file: taken as an API server would take them, refused with a line that names document and field."""

import asyncio
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.dev.services import ROOT
from services.gateway import policies_file, rule_sources
from services.gateway.metrics import GatewayMetrics
from services.gateway.rule_sources import FiledRules
from shared.broker import Broker
from shared.contracts import Mode
from shared.errors import BadSetting
from shared.verdict_store import VerdictMirror
from tests.support.builders import rule, tenant_record

CRD = ROOT / "deploy/helm/moorgate/files/crds/imagepolicies.yaml"
NAME_LABEL = "kubernetes.io/metadata.name"


def manifest(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.banzaicloud.com/v1alpha1",
        "kind": "ImagePolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def written(folder: Path, *documents: Any) -> Path:
    path = folder / "policies.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def spec_schema() -> dict[str, Any]:
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: dict[str, Any] = schema["properties"]["spec"]
    return found


SPECS = [
    {},
    {"priority": 7, "mode": "off", "images": ["*"], "tenant": "team-a", "policyBundle": "strict"},
    {"namespaceSelector": {"matchLabels": {NAME_LABEL: "a"}}},
    {"namespaceSelector": {"matchExpressions": [{"key": NAME_LABEL, "operator": "Exists"}]}},
    {"onPending": "deny", "onError": "allow"},
    {"priority": "7"},
    {"mode": "loud"},
    {"tenant": "Team_A"},
    {"onPending": "wait"},
    {"images": "nginx"},
    {"images": ["x" * 513]},
    {"images": ["x"] * 257},
    {"policyBundle": "x" * 257},
    {"namespaceSelector": {"matchLabels": {NAME_LABEL: "a" * 64}}},
    {"namespaceSelector": {"matchExpressions": [{"key": NAME_LABEL}]}},
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_spec_is_taken_exactly_where_the_crd_takes_it(spec: dict[str, Any], tmp_path: Path) -> None:
    is_valid = jsonschema.Draft7Validator(spec_schema()).is_valid(spec)
    path = written(tmp_path, manifest(**spec))
    if is_valid:
        assert [each.metadata.name for each in policies_file.read(path)] == ["web"]
    else:
        with pytest.raises(BadSetting, match=r"policies.yaml: document 1: .*\$\.spec"):
            policies_file.read(path)


def test_the_fields_are_those_of_the_crd() -> None:
    fields = {each.encode_name for each in msgspec.structs.fields(policies_file.Spec)}
    assert fields == spec_schema()["properties"].keys()


def test_documents_lists_and_what_an_api_server_adds_are_read(tmp_path: Path) -> None:
    exported = manifest("c") | {"status": {"conditions": []}}
    exported["metadata"] |= {"uid": "u", "resourceVersion": "1", "managedFields": []}
    listed = {"apiVersion": "v1", "kind": "List", "items": [manifest("b"), exported]}
    path = written(tmp_path, manifest("a"), None, listed)
    assert [each.metadata.name for each in policies_file.read(path)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (manifest(mod="warn"), "document 2: Object contains unknown field `mod` - at `$.spec`"),
        (manifest(priority=2**31), "document 2: Expected `int` <= 2147483647 - at `$.spec.priority`"),
        (manifest("a"), "document 2: metadata.name: there is another policy 'a'"),
        (manifest("No Name"), "document 2: metadata.name is 'No Name'"),
        (manifest() | {"kind": "ConfigMap"}, "document 2: apiVersion and kind are"),
        (manifest() | {"metadata": {}}, "document 2: Object missing required field `name`"),
        (manifest(mode=False), 'document 2: spec.mode: YAML reads off as false: write "off" in quotes'),
        (
            manifest(namespaceSelector={"matchLabels": {"team": "a"}}),
            "document 2 (web): spec.namespaceSelector.matchLabels: 'team' cannot be looked up",
        ),
        (
            manifest(namespaceSelector={"matchExpressions": [{"key": "team", "operator": "Exists"}]}),
            "document 2 (web): spec.namespaceSelector.matchExpressions: 'team' cannot be looked up",
        ),
        (
            manifest(namespaceSelector={"matchExpressions": [{"key": NAME_LABEL, "operator": "In"}]}),
            "document 2 (web): spec: namespaceSelector",
        ),
        (manifest(images=["a["]), "document 2 (web): spec: images: 'a[' is no glob"),
        (manifest(incumbentGrace="72h"), "document 2 (web): spec.incumbentGrace: nothing is known to run"),
        ("text", "document 2: Expected `object`, got `str`"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_fault_names_file_document_and_field(document: Any, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, manifest("a"), document)
    with pytest.raises(BadSetting) as caught:
        policies_file.read(path)
    assert str(caught.value).startswith(f"MOORGATE_POLICIES_FILE: {path}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2"])
def test_what_is_no_yaml_is_refused_by_its_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    with pytest.raises(BadSetting, match=r"policies\.yaml .*\(line 2\)|\(line 1\)"):
        policies_file.read(path)


async def test_a_change_is_taken_and_a_broken_one_changes_nothing(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_sources, "LOOK", 0.05)
    registry = CollectorRegistry()
    path = written(tmp_path, manifest(mode="warn"))
    rules = FiledRules(path, rule(), VerdictMirror(broker), GatewayMetrics(registry))

    async def mode() -> Mode:
        labels = await rules.namespaces.labels("shop", 1.0)
        return rules.policies.rules.rule_for(labels, "x", "x", lambda _: tenant_record()).mode

    def degraded() -> float | None:
        return registry.get_sample_value("moorgate_degraded", {"part": "policies"})

    assert await mode() is Mode.WARN
    [work] = rules.work()
    task = asyncio.create_task(work)
    try:
        async with asyncio.timeout(30):
            written(tmp_path, manifest(mode="audit"))
            while await mode() is not Mode.AUDIT:
                await asyncio.sleep(0.01)
            written(tmp_path, manifest(mode="loud"))
            while degraded() != 1:
                await asyncio.sleep(0.01)
            assert await mode() is Mode.AUDIT
            written(tmp_path, manifest(mode="off"))
            while await mode() is not Mode.OFF or degraded() != 0:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.wait({task})
