"""Each alert fires when it should and is silent when it should not be, and leads to a page that says what to do."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from deploy.dev.prometheus import RULES
from tests.monitoring.alert_cases import CASES, Case
from tests.support.monitoring import programs, rules

ROOT = RULES.parents[5]


def _promtool(*arguments: str | Path) -> str:
    """What it says where it is not content; empty otherwise."""
    done = subprocess.run(
        [programs().promtool, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_promtool_understands_the_rules() -> None:
    assert _promtool("check", "rules", RULES) == ""


@pytest.mark.parametrize("alert", sorted({case.alert for case in CASES}))
def test_it_fires_when_it_should_and_only_then(alert: str, tmp_path: Path) -> None:
    cases = [_test_of(case) for case in CASES if case.alert == alert]
    file = tmp_path / "tests.json"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    assert _promtool("test", "rules", file) == ""


def _test_of(case: Case) -> dict[str, object]:
    expression = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) or vector(0)'
    return {
        "name": case.why,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": f"{case.at}m",
                "exp_samples": [{"labels": "{}", "value": case.fires}],
            }
        ],
    }


def test_what_an_alert_says_can_be_filled_in(tmp_path: Path) -> None:
    """promtool shows the texts of what fires where it expects nothing."""
    firing = {case.alert: case for case in CASES if case.fires}
    tests = [
        {**_test_of(case), "promql_expr_test": [], "alert_rule_test": [_expects_nothing(case)]}
        for case in firing.values()
    ]
    file = tmp_path / "tests.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    shown = _promtool("test", "rules", file)
    assert shown.count("summary=") >= len(firing)
    assert "error expanding" not in shown
    assert "<no value>" not in shown


def _expects_nothing(case: Case) -> dict[str, object]:
    return {"alertname": case.alert, "eval_time": f"{case.at}m", "exp_alerts": []}


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    names = {rule["alert"] for rule in rules()}
    assert {case.alert for case in CASES if case.fires} == names
    assert {case.alert for case in CASES if not case.fires} == names


def test_every_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        name, annotations = rule["alert"], rule["annotations"]
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert annotations["summary"], name
        assert len(annotations["description"]) > 80, name
        page, _, anchor = annotations["runbook_url"].partition("#")
        assert anchor == name.lower(), name
        sections = re.split(r"^## ", (ROOT / page).read_text(), flags=re.MULTILINE)
        [section] = [each for each in sections if each.splitlines()[0] == name]
        for part in ("**Means.**", "**Users feel.**", "**Look.**", "**Do.**"):
            assert part in section, (name, part)


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    text = (ROOT / "docs" / "runbook-alerts.md").read_text()
    sections = re.findall(r"^## (Moorgate\w+)$", text, re.MULTILINE)
    assert sections == [rule["alert"] for rule in rules()]
