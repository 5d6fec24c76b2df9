"""Figures: medians, pairs, targets, and what stays of an older run."""

from pathlib import Path

import msgspec
import pytest

from tests.bench import figures
from tests.bench.figures import at_least, at_most, figure, ratios


@pytest.mark.parametrize(
    ("target", "value", "is_met"),
    [
        (at_least(0.6), 0.6, True),
        (at_least(0.6), 0.59, False),
        (at_most(3), 3.0, True),
        (at_most(3), 3.01, False),
    ],
)
def test_a_target_is_met_on_its_good_side_only(target: figures.Target, value: float, *, is_met: bool) -> None:
    assert figure("x", "s", [value], target).met is is_met


def test_the_median_is_judged_and_the_runs_are_kept() -> None:
    found = figure("x", "ratio", [0.9, 0.5, 0.61], at_least(0.6))
    assert (found.value, found.runs, found.met, found.target) == (0.61, [0.9, 0.5, 0.61], True, "≥ 0.6")


def test_what_is_only_reported_is_neither_met_nor_missed() -> None:
    assert figure("x", "s", [1.0]).met is None


def test_ratios_are_formed_pair_by_pair() -> None:
    assert ratios([1, 30], [2, 40]) == [0.5, 0.75]
    with pytest.raises(ValueError, match="zip"):
        ratios([1, 2], [1])


def test_targets_and_reports_lie_apart_and_new_figures_replace_their_own(tmp_path: Path) -> None:
    figures.keep(tmp_path, [figure("a", "s", [1], at_most(2)), figure("b", "s", [1])])
    figures.keep(tmp_path, [figure("a", "s", [3], at_most(2)), figure("c", "s", [1], at_least(1))])
    latest = msgspec.json.decode((tmp_path / figures.LATEST).read_bytes())
    assert [(each["name"], each["value"], each["met"]) for each in latest] == [
        ("a", 3.0, False),
        ("c", 1.0, True),
    ]
    assert set(latest[0]) >= {"name", "value", "unit", "target", "met", "runs"}
    assert set(figures.known(tmp_path)) == {"a", "b", "c"}
