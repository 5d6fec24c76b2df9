"""`make bench-guard`: CPU an operation against the recorded figures; more than a fifth above them is a regression.

Machines differ, and one machine from hour to hour: beside each bench a piece of work that never changes is timed, and
what is kept and compared is CPU in units of it. Throughput is not looked at: it swings twofold where CPU does not.

    python -m tests.bench.guard             compare with tests/bench/recorded.json; exit 1 on a regression
    python -m tests.bench.guard --record    write it anew, after a change that is worth its price
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench import admission, audits, rules, scans
from tests.bench.figures import Figure
from tests.bench.session import Bench, Session

RECORDED = Path(__file__).with_name("recorded.json")

RISE = 0.20

BENCHES: Mapping[str, Bench] = {
    "admission": admission.run,
    "rules": rules.run,
    "scanner": scans.run,
    "audits": audits.run,
}

_TURNS = 5


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the record."""

    name: str
    units: float
    """CPU of one operation, in units of `unit_of_work`."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A figure now, against then."""

    name: str
    then: float | None
    """None: it is new."""
    now: float

    @property
    def rise(self) -> float:
        """Share by which it is dearer now."""
        return self.now / self.then - 1 if self.then else 0.0

    @property
    def is_regression(self) -> bool:
        """Whether that is too much."""
        return self.rise > RISE


def is_guarded(figure: Figure) -> bool:
    """CPU, and no ratio: those are compared by their benches already."""
    return "CPU" in figure.name and figure.unit != "ratio"


def in_units(found: Iterable[Figure], unit: float) -> list[Kept]:
    """`unit`: seconds of CPU of one unit of work. Raises KeyError for a unit of time that is not known."""
    seconds = {"s": 1.0, "ms": 1e-3, "µs": 1e-6}
    return [
        Kept(name=each.name, units=each.value * seconds[each.unit] / unit)
        for each in found
        if is_guarded(each)
    ]


def compare(then: Sequence[Kept], now: Sequence[Kept]) -> list[Change]:
    """All that was measured now."""
    known = {each.name: each.units for each in then}
    return [Change(name=each.name, then=known.get(each.name), now=each.units) for each in now]


def missing(then: Sequence[Kept], now: Sequence[Kept]) -> list[str]:
    """What was recorded once and is not measured any more: a guard that is gone guards nothing."""
    return sorted({each.name for each in then} - {each.name for each in now})


def unit_of_work() -> float:
    """Seconds of CPU of what never changes: JSON, dictionaries and calls, as in a service."""
    return statistics.median(_timed(_work) for _ in range(_TURNS))


def _work() -> None:
    document = {"containers": [{"name": f"c{number}", "image": f"r/x/{number}:1"} for number in range(40)]}
    for _ in range(200):
        found = json.loads(json.dumps(document))
        sorted((each["image"].partition(":")[0], each["name"]) for each in found["containers"])


def _timed(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


async def measure(session: Session) -> list[Kept]:
    """Each bench between two timings of the unit."""
    kept: list[Kept] = []
    try:
        for name, bench in BENCHES.items():
            session.console.print(f"[bold]{name}[/bold]")
            before = unit_of_work()
            found = await bench(session)
            kept += in_units(found, (before + unit_of_work()) / 2)
    finally:
        await session.close()
    return kept


def table(changes: Sequence[Change]) -> Table:
    """For the terminal."""
    made = Table("CPU, in units of work", "then", "now", "change")
    for each in changes:
        then = "new" if each.then is None else f"{each.then:.4g}"
        mark = f"[bold red]{each.rise:+.0%}" if each.is_regression else f"{each.rise:+.0%}"
        made.add_row(each.name, then, f"{each.now:.4g}", mark)
    return made


def main() -> int:
    """0: no regression; 1: one, or something that was guarded is gone."""
    parser = argparse.ArgumentParser(prog="make bench-guard")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="moorgate-bench-") as folder:
        session = Session(folder=Path(folder), console=console, rounds=given.rounds, seconds=given.seconds)
        now = asyncio.run(measure(session))
    if given.record:
        RECORDED.write_bytes(msgspec.json.format(msgspec.json.encode(now), indent=2) + b"\n")
        return 0
    then = msgspec.json.decode(RECORDED.read_bytes(), type=list[Kept])
    changes, gone = compare(then, now), missing(then, now)
    console.print(table(changes))
    for name in gone:
        console.print(f"not measured any more: {name}", style="bold red")
    return 1 if gone or any(each.is_regression for each in changes) else 0


if __name__ == "__main__":
    sys.exit(main())
