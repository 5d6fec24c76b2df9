"""What makes a row red, what makes a recovery, and what other programs read."""

import json
from typing import Any

import msgspec
import pytest

from tests.chaos import report, summary
from tests.chaos.faults import FAULTS, named
from tests.chaos.oracle import Reckoning
from tests.chaos.recovery import IN_A_ROW, streak
from tests.chaos.report import Row


def row(**changes: Any) -> Row:
    given = {
        "admissions": 2000,
        "reckoning": Reckoning(),
        "recovery": 1.04,
        "bites": {"deferred": 3},
        "signs": ["deferred", "not decided"],
        **changes,
    }
    return report.row("nats-killed", **given)


def test_a_clean_row_has_no_troubles() -> None:
    assert row().troubles == ()


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"recovery": None}, "no recovery"),
        ({"recovery": 10.2}, "recovery took longer than 10 s"),
        ({"bites": {}}, "it did not bite"),
        ({"bites": {"outbox entries": 9}}, "it did not bite"),
        *(
            ({"reckoning": Reckoning(**{name: ("p", "q")})}, f"2 {name.replace('_', ' ')}")
            for name in Reckoning.__struct_fields__
        ),
    ],
)
def test_whatever_is_not_as_promised_is_a_trouble(changes: dict[str, Any], trouble: str) -> None:
    assert row(**changes).troubles == (trouble,)
    assert trouble in report.line(row(**changes))


def test_other_programs_find_the_fields_they_read() -> None:
    reckoning = Reckoning(wrongly_allowed=("a",), decisions_lost=("b", "c"), audits_missing=("b",))
    written = json.loads(msgspec.json.encode([row(reckoning=reckoning)]))
    assert {
        "fault": "nats-killed",
        "admissions": 2000,
        "wrongly_allowed": 1,
        "decisions_lost": 2,
        "audits_missing": 1,
        "audits_double": 0,
        "recovery_s": 1.0,
    }.items() <= written[0].items()


def test_the_table_for_the_docs_has_a_line_for_each_row() -> None:
    lines = report.markdown([row(), row(recovery=None)]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert len(cells) == 4
    assert {len(each) for each in cells} == {9}
    assert cells[-1][-2:] == ["none", "3 deferred"]


class Seen:
    """A probe, as `streak` sees it."""

    def __init__(self, seen: float | None) -> None:
        self.seen = seen


@pytest.mark.parametrize(
    ("seen", "since"),
    [
        ([1.0] * (IN_A_ROW - 1), None),
        ([None, *([2.0] * IN_A_ROW)], 2.0),
        ([0.5, None, *([3.0] * IN_A_ROW)], 3.0),
        ([*([1.0] * (IN_A_ROW - 1)), None, 1.0], None),
    ],
)
def test_one_lucky_answer_is_no_recovery(seen: list[float | None], since: float | None) -> None:
    assert streak([Seen(each) for each in seen]) == since


def test_each_fault_has_a_name_of_its_own_and_can_be_asked_for() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert named(["partition", "nats-killed"]) == [
        next(fault for fault in FAULTS if fault.name == name) for name in ("partition", "nats-killed")
    ]
    assert named([]) == list(FAULTS)
    with pytest.raises(ValueError, match="no fault full-moon: there are gateway-killed"):
        named(["full-moon"])


def test_of_several_runs_each_counts_and_what_is_missing_is_said() -> None:
    runs = [[row()], [row(recovery=2.5, reckoning=Reckoning(decisions_lost=("a", "b")))], [row(bites={})], []]
    [line] = [each for each in summary.table(runs).splitlines() if "`nats-killed`" in each]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2:] == ["nothing", "6,000", "2", "1.0 s · 2.5 s · did not bite · not run"]
    assert summary.table([]).count("`") == 2 * len(FAULTS)
