"""Run once more, one at a time, what was red beside others: `python -m tests.alone CODE`, with pytest's exit code.

Three workers drive real servers on however few cores there are, and now and then one waits longer than a test's
patience. What is red alone as well has failed. What is green alone is named: its patience is a defect of the test, to be
mended, and says nothing of the change at hand. More than `MOST` red tests are no accident, and are not tried again.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

MOST = 5
"""Tests that are given a second chance, at most."""

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main(arguments: Sequence[str]) -> int:
    """The exit code of the whole run: 0 where all that was red is green alone."""
    code = int(arguments[0])
    if code != pytest.ExitCode.TESTS_FAILED:
        return code  # interrupted, or broken before any test ran: there is nothing to try again
    red = sorted(json.loads(LAST_FAILED.read_text()))
    if len(red) > MOST:
        print(f"{len(red)} tests are red: more than the {MOST} that would be run again alone")
        return code
    alone = subprocess.run([sys.executable, "-m", "pytest", "--last-failed"], check=False)
    if alone.returncode == 0:
        print("RED BESIDE OTHERS, GREEN ALONE; mend their patience:", *red, sep="\n  ")
    return alone.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
