"""`make bench`: run the benches, show a table, keep JSON and plots under bench-results/.

`make bench BENCH="admission scanner"` runs only these; their figures take the place of the old ones. What cannot be
measured is said and makes the exit code 1; a target that is missed is only said: that is for people to judge.
`make bench-page` (page.py) writes docs/performance.md from what was measured last.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import (
    about,
    admission,
    apiserver,
    audits,
    cold,
    cores,
    figures,
    mirror,
    plots,
    processes,
    restart,
    rules,
    scans,
    weight,
)
from tests.bench.figures import Figure
from tests.bench.session import Bench, Session

BENCHES: dict[str, Bench] = {
    "admission": admission.run,
    "apiserver": apiserver.run,
    "cold": cold.run,
    "scanner": scans.run,
    "audits": audits.run,
    "mirror": mirror.run,
    "rules": rules.run,
    "weight": weight.run,
    "cores": cores.run,
    "restart": restart.run,
}
"""In this order: the last is fed with what the others have measured."""

RESULTS = Path("bench-results")


async def run(names: list[str], session: Session) -> int:
    """Run the named benches, keep their figures after each; gives the exit code."""
    failed = 0
    try:
        for name in names:
            session.console.print(f"[bold]{name}[/bold]")
            failed += not await _run(name, session)
    finally:
        await session.close()
    plots.draw_all(figures.known(session.results), session.results, "png")
    session.console.print(f"kept in {session.results}/{figures.LATEST} and {figures.REPORTED}, with plots")
    return 1 if failed else 0


async def _run(name: str, session: Session) -> bool:
    session.paces = []
    try:
        found = list(await BENCHES[name](session))
    except Exception:  # noqa: BLE001  one bench that breaks leaves the others their figures
        session.console.print_exception(max_frames=4)
        return False
    figures.keep(session.results, found)
    about.keep(session.results, name, session)
    session.console.print(table(found))
    return True


def table(found: list[Figure]) -> Table:
    """The figures, for the terminal."""
    made = Table("figure", "median", "min", "max", "unit", "target", "met")
    for each in found:
        met = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}[each.met]
        low, high = (f"{value:g}" for value in (min(each.runs), max(each.runs)))
        made.add_row(each.name, f"{each.value:g}", low, high, each.unit, each.target or "", met)
    return made


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=", ".join(BENCHES))
    parser.add_argument("--rounds", type=int, default=5, help="of each pair")
    parser.add_argument("--seconds", type=float, default=5.0, help="of load on each side of a pair")
    parser.add_argument("--scale", type=float, default=1.0, help="below 1: only whether the benches run")
    parser.add_argument("--large", action="store_true", help="a million verdicts in the mirror as well")
    parser.add_argument(
        "--against", type=Path, help="another working copy, whose gateway is measured as well"
    )
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
            results=given.results,
            rounds=given.rounds,
            seconds=given.seconds,
            scale=given.scale,
            large=given.large,
            against=given.against,
        )
        return asyncio.run(run([name for name in BENCHES if name in (given.benches or BENCHES)], session))


if __name__ == "__main__":
    sys.exit(main())
