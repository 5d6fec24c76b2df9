"""What came of it: a table for people, a list for programs, and the same table for the docs.

Only what was run is in it, with the day and the machine.
"""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from rich.table import Table

from tests.chaos.oracle import Reckoning
from tests.chaos.recovery import LIMIT

COUNTS = Reckoning.__struct_fields__


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One fault. The names of the first fields are read by other programs."""

    fault: str
    admissions: int
    wrongly_allowed: int
    decisions_lost: int
    audits_missing: int
    audits_double: int
    recovery_s: float | None
    """None: it did not recover while anybody waited."""
    wrongly_refused: int
    audits_unfounded: int
    did_bite: bool
    bites: dict[str, int]
    """The signs that showed, whether this fault is meant to show them or not."""
    examples: dict[str, tuple[str, ...]] = {}
    """Of what went wrong: names of Pods."""

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why the promise was not kept, or nothing was proved."""
        broken = [f"{getattr(self, name)} {name.replace('_', ' ')}" for name in COUNTS if getattr(self, name)]
        if self.recovery_s is None:
            broken.append("no recovery")
        elif self.recovery_s > LIMIT:
            broken.append(f"recovery took longer than {LIMIT:g} s")
        if not self.did_bite:
            broken.append("it did not bite")
        return tuple(broken)


EXAMPLES = 5


def row(
    fault: str,
    *,
    admissions: int,
    reckoning: Reckoning,
    recovery: float | None,
    bites: dict[str, int],
    signs: Sequence[str],
) -> Row:
    """The row of one fault."""
    found = {name: getattr(reckoning, name) for name in COUNTS}
    return Row(
        fault=fault,
        admissions=admissions,
        recovery_s=None if recovery is None else round(recovery, 1),
        did_bite=any(name in bites for name in signs),
        bites=dict(sorted(bites.items())),
        examples={name: names[:EXAMPLES] for name, names in found.items() if names},
        **{name: len(names) for name, names in found.items()},
    )


_HEADS = (
    "fault",
    "admissions",
    "wrongly allowed",
    "wrongly refused",
    "decisions lost",
    "Audits missing",
    "Audits twice",
    "recovery",
)


def line(each: Row) -> str:
    """What is said of a row as soon as it is there."""
    said = (
        f"  {'; '.join(each.troubles) or 'clean'}, recovery {_seconds(each.recovery_s)}; seen: {_seen(each)}"
    )
    return said + (f"; such as {each.examples}" if each.examples else "")


def table(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    made = Table(*_HEADS, "so", title="Faults and what they cost")
    for each in rows:
        mark = "[bold red]" + "; ".join(each.troubles) if each.troubles else "[green]✓"
        made.add_row(*_cells(each), mark)
    return made


def markdown(rows: Sequence[Row]) -> str:
    """For docs/reliability.md."""
    lines = [
        f"Run on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}.",
        "",
        _row([*_HEADS, "how it was seen"]),
        _row(["---"] * (len(_HEADS) + 1)),
        *(_row([*_cells(each), _seen(each)]) for each in rows),
    ]
    return "\n".join(lines) + "\n"


def _cells(each: Row) -> list[str]:
    return [
        each.fault,
        str(each.admissions),
        str(each.wrongly_allowed),
        str(each.wrongly_refused),
        str(each.decisions_lost),
        str(each.audits_missing),
        str(each.audits_double + each.audits_unfounded),
        _seconds(each.recovery_s),
    ]


def _seconds(recovery: float | None) -> str:
    return "none" if recovery is None else f"{recovery:.1f} s"


def _seen(each: Row) -> str:
    return ", ".join(f"{count} {name}" for name, count in each.bites.items()) or "not at all"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
