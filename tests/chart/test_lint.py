"""The chart as a whole: Helm's own linter, its README, its schema, and what a rendering must never do."""

import json
from pathlib import Path

import pytest

from deploy.dev import chart_readme
from deploy.dev.helm import CHART, HelmError, Release
from tests.support import chart


@pytest.mark.parametrize("values", chart.SETS)
def test_helm_finds_no_fault(values: str) -> None:
    assert "0 chart(s) failed" in Release(files=(chart.VALUES[chart.SETS.index(values)],)).lint()


def test_the_readme_has_the_values_as_they_are() -> None:
    readme = (CHART / "README.md").read_text()
    assert readme == chart_readme.with_values(readme, (CHART / "values.yaml").read_text()), "run `make chart`"


def test_every_value_is_explained() -> None:
    sections = chart_readme.sections((CHART / "values.yaml").read_text())
    assert not [each.name for section in sections for each in section.values if not each.description]


def test_chart_and_program_have_one_version() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text().split('version = "')[1].split('"')[0]
    versions = [
        line.split(": ")[1].strip('"')
        for line in (CHART / "Chart.yaml").read_text().splitlines()
        if line.lower().startswith(("version:", "appversion:"))
    ]
    assert versions == [project, project]


def test_rendering_twice_gives_the_same() -> None:
    """What makes passwords or certificates at every rendering keeps Argo CD from ever being content."""
    release = Release(files=(chart.VALUES[chart.SETS.index("everything")],))
    assert json.dumps(release.template()) == json.dumps(list(chart.rendered("everything")))


def test_names_follow_the_release() -> None:
    values = {"anchore": {"url": "http://anchore:8228"}}
    names = {
        name: {each["metadata"]["name"] for each in Release(name=name, values=values).template()}
        for name in ("moorgate", "prod-moorgate", "security")
    }
    assert "moorgate-gateway" in names["moorgate"]
    assert "prod-moorgate-gateway" in names["prod-moorgate"]
    assert "security-moorgate-gateway" in names["security"]
    (dotted,) = {
        each["metadata"]["name"]
        for each in Release(name="gate.prod", values=values).template()
        if each["kind"] == "Service" and each["metadata"]["name"].endswith("-gateway")
    }
    assert dotted == "gate-prod-moorgate-gateway"


def test_a_service_must_begin_with_a_letter() -> None:
    release = Release(name="2026", values={"anchore": {"url": "http://anchore:8228"}})
    with pytest.raises(HelmError, match="set fullnameOverride"):
        release.template()


def test_names_that_yaml_takes_for_numbers_stay_names() -> None:
    values = {"anchore": {"url": "http://anchore:8228", "existingSecret": "123"}, "fullnameOverride": "gate"}

    def check(node: object, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                is_name = key in ("name", "namespace", "secretName", "app.kubernetes.io/instance")
                assert isinstance(value, str) or not is_name, f"{path}/{key} is {value!r}"
                check(value, f"{path}/{key}")
        elif isinstance(node, list):
            for number, value in enumerate(node):
                check(value, f"{path}/{number}")

    for each in Release(name="2026", namespace="123", values=values).template():
        check(each, f"{each['kind']}/{each['metadata']['name']}")


def test_the_namespace_of_everybody_is_no_place_for_it() -> None:
    """It would not be looked at, and nobody would notice."""
    values = {"anchore": {"url": "http://anchore:8228"}}
    with pytest.raises(HelmError, match="a namespace of its own"):
        Release(namespace="default", values=values).template()
    assert Release(namespace="default", values={**values, "webhooks": {"enabled": False}}).template()


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({}, "anchore.url"),
        ({"nats": {"builtin": {"enabled": False}}}, "nats.url"),
        ({"tls": {"issuer": "secret"}}, "tls.existingSecret"),
        ({"gateway": {"pathSecret": False}}, "forge records"),
        ({"gateway": {"preStopSeconds": 20}}, "gateway.terminationGracePeriodSeconds"),
        ({"scanner": {"notifications": {"enabled": True}}}, "scanner.notifications"),
        (
            {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 2}}},
            "gateway.autoscaling",
        ),
        ({"scanner": {"autoscaling": {"enabled": True, "minReplicas": 9}}}, "scanner.autoscaling"),
        ({"gateway": {"clientCA": {"secret": "a", "configMap": "b"}}}, "not both"),
        ({"bootstrap": {"registries": [{"namespace": "a", "name": "b"}]}}, "bootstrap.anchore.adminSecret"),
    ],
)
def test_what_is_missing_is_named(values: dict[str, object], advice: str) -> None:
    given = {"anchore": {"url": "http://anchore:8228"}, **values} if values else {}
    with pytest.raises(HelmError, match=advice):
        Release(values=given).template()
