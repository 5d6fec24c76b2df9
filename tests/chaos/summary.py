"""`python -m tests.chaos.summary RUN.json…`: several runs as the table of docs/reliability.md, on stdout."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.report import COUNTS, Row

HEADS = (
    "fault",
    "what happens",
    "seen by",
    "admissions",
    "wrong, lost, missing or twice",
    "recovery, each run",
)


def table(runs: Sequence[Sequence[Row]]) -> str:
    """Markdown, in the order of the faults. A fault that a run lacks, or that did not bite in it, is said."""
    lines = [_line(HEADS), _line(["---"] * len(HEADS))]
    for fault in FAULTS:
        rows = [next((row for row in run if row.fault == fault.name), None) for run in runs]
        found = [row for row in rows if row]
        harm = sum(getattr(row, name) for row in found for name in COUNTS)
        cells = [
            f"`{fault.name}`",
            fault.says,
            _signs(fault, found),
            f"{sum(row.admissions for row in found):,}",
            str(harm) if found else "not run",
            " · ".join(map(_recovery, rows)),
        ]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _signs(fault: Fault, rows: Sequence[Row]) -> str:
    """Those that are the fault's own, the largest of all runs."""
    most = {name: max(row.bites.get(name, 0) for row in rows) for name in fault.signs} if rows else {}
    return ", ".join(f"{count:,} {name}" for name, count in most.items() if count) or "nothing"


def _recovery(row: Row | None) -> str:
    if row is None:
        return "not run"
    if not row.did_bite:
        return "did not bite"
    return "none" if row.recovery_s is None else f"{row.recovery_s:.1f} s"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    read = [msgspec.json.decode(Path(name).read_bytes(), type=list[Row]) for name in sys.argv[1:]]
    sys.stdout.write(table(read))
