"""`make soak DURATION=1h`: the real stack under a steady load; memory, descriptors, tasks, consumers and streams stay flat.

Writes bench-results/soak.json and soak.png. Exit 1: something grew, something bad was let in, or a process was not the same to the end.
"""

import argparse
import asyncio
import contextlib
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from deploy.dev.controlplane import ControlPlane
from deploy.dev.services import ROOT
from deploy.dev.stack import CRDS
from shared import subjects
from shared.errors import BadSetting
from shared.settings import parse_duration
from tests.chaos.stage import Shape, open_stage
from tests.soak import plot
from tests.soak.flat import LEAST, Growth, growth
from tests.soak.load import Load
from tests.soak.samples import Samples, values

RESULTS = ROOT / "bench-results"

MEANT_TO_GROW = frozenset({f"{subjects.EVENTS}: messages", f"{subjects.EVENTS}: MiB"})
"""A log of a week, with a bound: see `moorgate streams apply`."""

SAMPLES = 120
"""In a run, however long it is."""

SHORTEST = 5.0
"""Seconds between two."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """bench-results/soak.json."""

    seconds: float
    answers: dict[str, int]
    wrongly_allowed: int
    restarted: list[str]
    missed: list[str]
    growth: list[Growth]

    @property
    def is_flat(self) -> bool:
        """Whether the run was as it should be."""
        grew = [each for each in self.growth if not each.is_flat and not each.is_meant_to_grow]
        return not (grew or self.wrongly_allowed or self.restarted or self.missed)


async def run(seconds: float, pace: float, folder: Path, console: Console) -> Result:
    """Load and look."""
    async with (
        ControlPlane(folder=folder / "control-plane", crds=CRDS, nodes=0) as plane,
        open_stage(plane, folder / "stage", Shape.PLAIN) as stage,
        stage.api() as api,
    ):
        load = Load(api, (await stage.namespace()).namespace, pace)
        samples = Samples(stage)
        pids = {name: process.pid for name, process in stage.services.processes.items()}
        loading = asyncio.create_task(load.run())
        began = time.monotonic()
        try:
            while not loading.done() and (passed := time.monotonic() - began) < seconds:
                await samples.take()
                console.print(f"{passed / 60:6.1f} min  {dict(sorted(load.answers.items()))}")
                await asyncio.sleep(max(seconds / SAMPLES, SHORTEST))
        finally:
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading
        RESULTS.mkdir(exist_ok=True)
        plot.draw(samples.series, RESULTS / "soak.png")
        return Result(
            seconds=round(time.monotonic() - began),
            answers=dict(load.answers),
            wrongly_allowed=len(load.wrong),
            restarted=[name for name, pid in pids.items() if stage.services.processes[name].pid != pid],
            missed=samples.missed,
            growth=[
                growth(name, values(found), is_meant_to_grow=name in MEANT_TO_GROW)
                for name, found in sorted(samples.series.items())
            ],
        )


def table(result: Result) -> Table:
    """For the terminal."""
    made = Table("of", "second quarter", "last quarter", "so", title=f"{result.seconds / 60:.0f} minutes")
    for each in result.growth:
        mark = (
            "[green]flat"
            if each.is_flat
            else "grows, as meant"
            if each.is_meant_to_grow
            else "[bold red]grows"
        )
        made.add_row(each.name, f"{each.early:.1f}", f"{each.late:.1f}", mark)
    return made


def main() -> int:
    """0: flat; 1: not; 2: misuse."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--duration", default="1h", help=f"at least {LEAST * SHORTEST:g}s")
    parser.add_argument("--pace", type=float, default=10.0, help="Pods a second")
    options = parser.parse_args()
    try:
        seconds = parse_duration(options.duration)
    except BadSetting as error:
        parser.error(str(error))
    if seconds < LEAST * SHORTEST:
        parser.error(f"--duration: at least {LEAST * SHORTEST:g}s, else nothing can be said")
    console = Console(highlight=False)
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    folder = Path(tempfile.mkdtemp(prefix="moorgate-soak-"))
    result = asyncio.run(run(seconds, options.pace, folder, console))
    (RESULTS / "soak.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    console.print(table(result))
    console.print(
        f"answers: {dict(sorted(result.answers.items()))}; let in though bad: {result.wrongly_allowed}"
    )
    for line in [f"restarted: {each}" for each in result.restarted] + [
        f"not read: {each}" for each in result.missed
    ]:
        console.print(line, style="bold red")
    if result.is_flat:
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    console.print(f"The logs of every part are in {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
