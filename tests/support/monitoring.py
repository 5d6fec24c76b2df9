"""The shipped dashboard and alert rules, as tests read them: queries, expressions, and what metrics they name."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from deploy.dev import prometheus

MONITORING = prometheus.RULES.parent
DASHBOARD = MONITORING / "dashboard.json"

_METRIC = re.compile(r"\b(?:moorgate|process|python)_[a-z_]+\b")
_STRING = re.compile(r'"[^"]*"')


class Target(NamedTuple):
    """One query of a panel."""

    panel: str
    expression: str

    def over(self, seconds: int) -> str:
        """As Grafana sends it with nothing chosen, its rates over so many seconds."""
        text = self.expression.replace("$__rate_interval", f"{seconds}s")
        return text.replace("$namespace", ".*").replace("$job", ".*")


def programs() -> prometheus.Programs:
    """prometheus and promtool; skips, loudly, where they cannot be had, and fails in CI."""
    try:
        return prometheus.provide()
    except prometheus.PrometheusMissingError as error:
        message = f"DASHBOARD AND ALERTS ARE NOT TESTED: {error}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> Iterator[Target]:
    for panel in panels():
        for target in panel["targets"]:
            yield Target(panel["title"], target["expr"])


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(prometheus.RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics_of(expression: str) -> set[str]:
    """The names of the metrics in an expression."""
    return set(_METRIC.findall(_STRING.sub('""', expression)))
