"""`make bench`: run the benches, show a table, keep JSON, plots and docs/performance.md.

`python -m tests.bench admission scanner` runs only these; their figures take the place of the old ones. What cannot
be measured is said and makes the exit code 1; a target that is missed is only said: that is for people to judge.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import admission, audits, cold, figures, mirror, processes, rules, scans, weight
from tests.bench.figures import Figure
from tests.bench.session import Bench, Session

BENCHES: dict[str, Bench] = {
    "admission": admission.run,
    "cold": cold.run,
    "scanner": scans.run,
    "audits": audits.run,
    "mirror": mirror.run,
    "rules": rules.run,
    "weight": weight.run,
}
RESULTS = Path("bench-results")
LATEST, REPORTED = "latest.json", "reported.json"


async def run(names: list[str], session: Session, results: Path) -> int:
    """Run the named benches, keep their figures after each; gives the exit code."""
    try:
        return await _run(names, session, results)
    finally:
        await session.close()


async def _run(names: list[str], session: Session, results: Path) -> int:
    failed = 0
    for name in names:
        session.console.print(f"[bold]{name}[/bold]")
        try:
            found = list(await BENCHES[name](session))
        except Exception:  # noqa: BLE001  one bench that breaks leaves the others their figures
            session.console.print_exception(max_frames=4)
            failed += 1
            continue
        keep(found, results)
        show(found, session.console)
    return 1 if failed else 0


def keep(found: list[Figure], results: Path) -> None:
    """One entry a target in `latest.json`, all else in `reported.json`."""
    for file, is_target in ((LATEST, True), (REPORTED, False)):
        new = [each for each in found if (each.target is not None) is is_target]
        figures.write(results / file, figures.merge(figures.read(results / file), new))


def show(found: list[Figure], console: Console) -> None:
    """The figures as a table."""
    table = Table("figure", "median", "min", "max", "unit", "target", "met")
    for each in found:
        met = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[each.met]
        low, high = (f"{value:g}" for value in (min(each.runs), max(each.runs)))
        table.add_row(each.name, f"{each.value:g}", low, high, each.unit, each.target or "", met)
    console.print(table)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=", ".join(BENCHES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    unknown = set(given.benches) - set(BENCHES)
    if unknown:
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    console = Console(soft_wrap=True)
    console.print(processes.machine())
    with tempfile.TemporaryDirectory(prefix="moorgate-bench-") as folder:
        session = Session(
            folder=Path(folder),
            console=console,
            rounds=given.rounds,
            seconds=given.seconds,
            scale=given.scale,
        )
        return asyncio.run(run(given.benches or list(BENCHES), session, given.results))


if __name__ == "__main__":
    sys.exit(main())
