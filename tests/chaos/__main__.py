"""`python -m tests.chaos [fault …]`: the faults one after the other, or those that are named.

Stages are shared by the faults of one shape. Writes bench-results/chaos.json and chaos.md; fails when a promise was not kept,
a fault did not bite, or recovery took longer than ten seconds.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec
from rich.console import Console

from deploy.dev.controlplane import ControlPlane
from deploy.dev.processes import ProcessError
from deploy.dev.services import ROOT
from deploy.dev.stack import CRDS
from tests.chaos import machine, report, trial
from tests.chaos.faults import FAULTS, Fault, named
from tests.chaos.report import Row
from tests.chaos.stage import Shape, open_stage
from tests.chaos.trial import Size

RESULTS = ROOT / "bench-results"


async def run(
    faults: Sequence[Fault], size: Size, folder: Path, console: Console
) -> tuple[list[Row], list[str]]:
    """The rows, and what could not be run."""
    rows: list[Row] = []
    left: list[str] = []
    by_shape = sorted(faults, key=lambda fault: list(Shape).index(fault.shape))
    async with ControlPlane(folder=folder / "control-plane", crds=CRDS, nodes=0) as plane:
        for shape, group in groupby(by_shape, key=lambda fault: fault.shape):
            those = list(group)
            names = [fault.name for fault in those]
            try:
                async with open_stage(plane, folder / shape, shape) as stage:
                    for fault in those:
                        console.print(f"{fault.name}: {fault.says}", style="bold")
                        rows.append(row := await trial.run(stage, fault, size))
                        names.remove(fault.name)
                        console.print(report.line(row), soft_wrap=True)
            except (machine.MachineError, ProcessError, AssertionError, TimeoutError) as error:
                left += [f"{name}: {error}" for name in names]
                console.print(f"  stage {shape} ended: {error}", style="bold red")
    return rows, left


def main() -> int:
    """0: every row is clean; 1: not; 2: misuse."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("fault", nargs="*", help=", ".join(fault.name for fault in FAULTS))
    parser.add_argument("--admissions", type=int, default=Size.admissions)
    parser.add_argument("--pace", type=float, default=Size.pace, help="Pods a second")
    parser.add_argument("--keep", action="store_true", help="keep the logs also when everything is clean")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        faults = named(options.fault)
    except ValueError as error:
        parser.error(str(error))
    folder = Path(tempfile.mkdtemp(prefix="moorgate-chaos-"))
    # asyncio warns of each connection that a dead server has left half open.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    machine.clean_up()
    size = Size(admissions=options.admissions, pace=options.pace)
    rows, left = asyncio.run(run(faults, size, folder, console))
    console.print(report.table(rows))
    write(rows)
    for line in left:
        console.print(f"not run: {line}", style="bold red")
    is_clean = not left and not any(row.troubles for row in rows)
    if is_clean and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        console.print(f"The logs of every part are in {folder}")
    return 0 if is_clean else 1


def write(rows: Sequence[Row]) -> None:
    """For programs and for the docs."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "chaos.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    (RESULTS / "chaos.md").write_text(report.markdown(rows))


if __name__ == "__main__":
    sys.exit(main())
