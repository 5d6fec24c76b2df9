"""`make bench-guard`: CPU an operation against the recorded figures; more than a fifth above them is a regression.

Machines differ, and one machine from minute to minute: beside each run a piece of work that never changes is timed, and
what is kept and compared is CPU in units of it. A bench that looks worse is run once more. Throughput is not looked at: it swings twofold where CPU does not.

    python -m tests.bench.guard             compare with tests/bench/recorded.json; exit 1 on a regression
    python -m tests.bench.guard --record    write it anew, of what `make bench` measured last: after a change worth its price
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench import about, admission, audits, figures, rules, scans
from tests.bench.figures import Figure
from tests.bench.pace import unit_of_work
from tests.bench.session import Bench, Session

RECORDED = Path(__file__).with_name("recorded.json")

RISE = 0.20

BENCHES: Mapping[str, Bench] = {
    "admission": admission.run,
    "rules": rules.run,
    "scanner": scans.run,
    "audits": audits.run,
}


class NotMeasuredError(RuntimeError):
    """There is nothing to record."""


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


_OTHERS = "limit", "echo", "NATS'"
"""What is compared with is not ours to guard."""


def is_guarded(figure: Figure) -> bool:
    """Our CPU, and no ratio: those are compared by their benches already."""
    is_ours = not any(name in figure.name for name in _OTHERS)
    return "CPU" in figure.name and figure.unit != "ratio" and is_ours


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


def of_results(results: Path) -> list[Kept]:
    """What `make bench` has kept. Raises `NotMeasuredError`."""
    known, kept = figures.known(results).values(), []
    for name in BENCHES:
        measured = about.read(results).benches.get(name)
        if measured is None or not measured.pace:
            raise NotMeasuredError(f"{name} has not been measured: run `make bench BENCH={name}`")
        kept += in_units((each for each in known if each.name.startswith(f"{name}: ")), measured.pace)
    return kept


def suspects(changes: Sequence[Change]) -> list[str]:
    """The benches that have a regression: one of a dozen figures is often a fifth too high by accident."""
    return [
        name
        for name in BENCHES
        if any(each.is_regression and each.name.startswith(f"{name}: ") for each in changes)
    ]


def lower(once: Sequence[Kept], again: Sequence[Kept]) -> list[Kept]:
    """All of `once`, each with the lower of its figures: what has really become dearer is so both times."""
    found = {each.name: each.units for each in again}
    return [Kept(name=each.name, units=min(each.units, found.get(each.name, each.units))) for each in once]


async def measure(session: Session, names: Sequence[str] = ()) -> list[Kept]:
    """Each named bench (none: all), in the unit as it was between its runs."""
    kept: list[Kept] = []
    try:
        for name in names or BENCHES:
            session.console.print(f"[bold]{name}[/bold]")
            session.paces = [unit_of_work()]
            found = await BENCHES[name](session)
            kept += in_units(found, statistics.median(session.paces))
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


def _record(results: Path, console: Console) -> int:
    try:
        kept = of_results(results)
    except NotMeasuredError as error:
        console.print(str(error))
        return 1
    RECORDED.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
    return 0


def main() -> int:
    """0: no regression; 1: one, or something that was guarded is gone."""
    parser = argparse.ArgumentParser(prog="make bench-guard")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--results", type=Path, default=Path("bench-results"))
    given = parser.parse_args()
    console = Console(soft_wrap=True)
    if given.record:
        return _record(given.results, console)
    with tempfile.TemporaryDirectory(prefix="moorgate-bench-") as folder:

        def session(turn: str) -> Session:
            place = Path(folder) / turn
            place.mkdir()
            return Session(
                folder=place, console=console, results=place, rounds=given.rounds, seconds=given.seconds
            )

        then = msgspec.json.decode(RECORDED.read_bytes(), type=list[Kept])
        now = asyncio.run(measure(session("once")))
        if again := suspects(compare(then, now)):
            now = lower(now, asyncio.run(measure(session("again"), again)))
    changes, gone = compare(then, now), missing(then, now)
    console.print(table(changes))
    for name in gone:
        console.print(f"not measured any more: {name}", style="bold red")
    return 1 if gone or any(each.is_regression for each in changes) else 0


if __name__ == "__main__":
    sys.exit(main())
