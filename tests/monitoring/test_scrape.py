"""A real Prometheus over real services: every query of the dashboard has an answer, every alert a metric to go by."""

import asyncio
import math
import re
from pathlib import Path

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.prometheus import Prometheus
from tests.monitoring.scene import WITHIN, let_everything_happen, watched
from tests.support.monitoring import metrics_of, rules, targets
from tests.support.road import until

WINDOW = 120
"""Seconds that rates look back here: the whole of the test."""

_SELECTOR = re.compile(r"\bmoorgate_\w+(?:\{[^}]*\})?")

PANELS = {target.over(WINDOW): target.panel for target in targets()}
ALERTS = {selector: rule["alert"] for rule in rules() for selector in _SELECTOR.findall(rule["expr"])}
"""The vectors that the alerts go by, each with its labels."""


@pytest.mark.long
async def test_every_query_and_every_alert_finds_what_the_services_really_export(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    async with watched(control_plane, tmp_path) as scene:
        missing = set(PANELS) | set(ALERTS)
        watching = asyncio.create_task(_watch(scene.prometheus, missing))
        try:
            await let_everything_happen(scene)

            async def is_seen() -> bool:
                return watching.done() or not missing

            with_names = {**ALERTS, **PANELS}
            try:
                await until(is_seen, "everything is seen", WITHIN)
            except AssertionError:
                pytest.fail(f"no data: {[(with_names[each], each) for each in sorted(missing)]}")
        finally:
            watching.cancel()
            await asyncio.wait({watching})
        if not watching.cancelled():
            watching.result()
        assert {
            rule["name"]: rule["lastError"]
            for rule in await scene.prometheus.rules()
            if rule.get("lastError")
        } == {}


async def _watch(prometheus: Prometheus, missing: set[str]) -> None:
    """Take out of `missing` whatever has been seen with a number, until nothing is left."""
    while missing:
        for expression in sorted(missing):
            found = await prometheus.query(expression)
            if any(not math.isnan(float(each["value"][1])) for each in found):
                missing.discard(expression)
        await asyncio.sleep(1)


def test_dashboard_and_alerts_are_read_as_they_are_meant_to_be() -> None:
    for expression in [*PANELS, *(rule["expr"] for rule in rules())]:
        assert metrics_of(expression), expression
    assert 'moorgate_admission_refusals_total{reason="error"}' in ALERTS
    assert {name for each in ALERTS for name in metrics_of(each)} == {
        name for rule in rules() for name in metrics_of(rule["expr"])
    }
