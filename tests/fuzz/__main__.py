"""`make fuzz`: all targets one after another under atheris, guided by coverage; a line of figures for each.

    python -m tests.fuzz [--seconds 600 | --runs 2000] [TARGET…]

What was found interesting stays in .cache/fuzz and is the next run's beginning. An input that breaks a target is left in
.cache/fuzz/findings: mend what it shows, and keep it in tests/fuzz/seeds.py. Exit 1: something was found.
"""

import argparse
import asyncio
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import seeds
from tests.fuzz.targets import ALL, TARGETS

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".cache" / "fuzz"

NO_ATHERIS = (
    "make fuzz: NOT FUZZED: atheris is not installed (it has wheels for Linux on x86-64 alone); "
    "the hypothesis tests in tests/fuzz try the same targets without it"
)

_DONE = re.compile(r"Done (\d+) runs? in (\d+) second")
_COVERED = re.compile(r"\bcov: (\d+)")

PATIENCE = 60.0
"""Seconds beyond its time for a target to start and to write down what it found."""


@dataclass(frozen=True)
class Run:
    """What came of one target."""

    target: str
    inputs: int
    covered: int
    finding: str
    """The end of what libFuzzer said; empty: nothing was found."""

    def __str__(self) -> str:
        return f"{self.target:16} {self.inputs:9} inputs  {self.covered:6} edges  {'CRASH' if self.finding else '0 crashes'}"


def is_there() -> bool:
    """Whether atheris can be used here."""
    return importlib.util.find_spec("atheris") is not None


async def fuzz(target: str, *limits: str, seconds: float, kept: Path = KEPT) -> Run:
    """Run one target within libFuzzer's limits; `seconds` is when it must have ended, `kept` where it keeps what it learns."""
    corpus, given, findings = kept / target, kept / "seeds" / target, kept / "findings"
    for folder in (corpus, given, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds.of(target)):
        (given / f"{number:03}").write_bytes(seed)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.fuzz.guided", target, str(corpus), str(given)),
        *("-max_len=8192", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={findings}/{target}-"),
        *limits,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(child.communicate(), seconds + PATIENCE)
    except TimeoutError:
        child.kill()
        await child.wait()
        return Run(target, 0, 0, f"did not end within {seconds + PATIENCE:.0f} s")
    text = said.decode(errors="replace")
    done = _DONE.search(text)
    covered = [int(found) for found in _COVERED.findall(text)]
    is_good = child.returncode == 0 and done is not None
    return Run(
        target,
        int(done[1]) if done else 0,
        max(covered, default=0),
        "" if is_good else _shown(text),
    )


def _shown(text: str) -> str:
    """The end of it, without the list of what was instrumented."""
    return "\n".join(line[:300] for line in text.splitlines() if not line.startswith("INFO: Instr"))[-6000:]


async def main() -> int:
    """All targets, or those named."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=600, help="for all targets together")
    parser.add_argument("--runs", type=int, help="inputs for each target, instead of seconds")
    told = parser.parse_args()
    if unknown := set(told.targets) - {*TARGETS, ALL}:
        parser.error(f"no target {', '.join(unknown)}: there are {', '.join(TARGETS)}")
    if not is_there():
        print(NO_ATHERIS, file=sys.stderr)  # noqa: T201  a command's output
        return 0
    names = told.targets or list(TARGETS)
    each = max(1, int(told.seconds / len(names)))
    limit = f"-runs={told.runs}" if told.runs else f"-max_total_time={each}"
    runs = []
    for name in names:
        runs.append(await fuzz(name, limit, seconds=600 if told.runs else each))
        print(runs[-1], flush=True)  # noqa: T201  a command's output
        if runs[-1].finding:
            print(runs[-1].finding, flush=True)  # noqa: T201  a command's output
    crashes = sum(bool(run.finding) for run in runs)
    print(f"{len(runs)} targets, {sum(run.inputs for run in runs)} inputs, {crashes} crashes")  # noqa: T201  a command's output
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
