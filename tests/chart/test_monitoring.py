"""Dashboard, alert rules and scraping, as the chart renders them: the one copy of each, only where it is asked for."""

import json
from typing import Any

import yaml

from deploy.dev.helm import Release
from deploy.dev.prometheus import RULES
from tests.support.monitoring import dashboard

OPERATOR = "monitoring.coreos.com/v1"

LEAST = {"anchore": {"url": "http://anchore.example:8228"}}
"""What the chart cannot do without."""


def _rendered(kind: str, **monitoring: Any) -> list[dict[str, Any]]:
    objects = Release(values={**LEAST, "monitoring": monitoring}).template()
    return [each for each in objects if each["kind"] == kind and "nats" not in each["metadata"]["name"]]


def test_nothing_of_it_is_rendered_unasked_for() -> None:
    objects = Release(values=LEAST).template()
    assert not [each for each in objects if each["apiVersion"] == OPERATOR]
    assert not [each for each in objects if each["metadata"]["name"].endswith("-dashboard")]


def test_the_rules_are_those_of_the_file_with_the_runbook_where_it_is_served() -> None:
    given = {"enabled": True, "labels": {"release": "prom"}}
    [rule] = _rendered("PrometheusRule", rules=given, runbookBase="https://wiki.example/moorgate/")
    assert rule["apiVersion"] == OPERATOR
    assert rule["metadata"]["labels"]["release"] == "prom"
    expected = RULES.read_text().replace("runbook_url: docs/", "runbook_url: https://wiki.example/moorgate/")
    assert rule["spec"] == yaml.safe_load(expected)
    links = [
        each["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for each in group["rules"]
    ]
    assert all(link.startswith("https://wiki.example/moorgate/runbook-alerts.md#") for link in links)


def test_unless_told_otherwise_the_runbook_is_in_the_documentation_beside() -> None:
    [rule] = _rendered("PrometheusRule", rules={"enabled": True})
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_the_dashboard_is_the_file_where_the_sidecar_finds_it() -> None:
    given = {"enabled": True, "namespace": "grafana", "annotations": {"grafana_folder": "Security"}}
    [found] = [
        each
        for each in _rendered("ConfigMap", dashboard=given)
        if each["metadata"]["name"].endswith("-dashboard")
    ]
    assert found["metadata"]["namespace"] == "grafana"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Security"}
    assert json.loads(found["data"]["moorgate.json"]) == dashboard()


def test_every_pod_of_ours_with_metrics_is_scraped_and_no_other() -> None:
    given = {"podMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prom"}}}
    objects = Release(values={**LEAST, "monitoring": given}).template()
    [monitor] = [each for each in objects if each["kind"] == "PodMonitor"]
    assert monitor["metadata"]["labels"]["release"] == "prom"
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["interval"]) == ("metrics", "15s")
    pods = [
        each["spec"]["template"]
        for each in objects
        if each["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}
    ]
    scraped = [pod for pod in pods if _selects(monitor["spec"]["selector"], pod["metadata"]["labels"])]
    assert scraped == [pod for pod in pods if _has_metrics(pod)]
    jobs = [pod["metadata"]["labels"][monitor["spec"]["jobLabel"]] for pod in scraped]
    assert sorted(jobs) == ["audit-writer", "gateway", "scanner"]


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    is_equal = selector["matchLabels"].items() <= labels.items()
    return is_equal and all(
        labels.get(each["key"]) in each["values"] for each in selector["matchExpressions"]
    )


def _has_metrics(pod: dict[str, Any]) -> bool:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    return any(port.get("name") == "metrics" for port in ports)
