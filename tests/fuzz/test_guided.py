"""A short form of `make fuzz`: all targets in one process, from the seeds on, guided by coverage."""

from pathlib import Path

import pytest

from tests.fuzz.__main__ import NO_ATHERIS, fuzz, is_there
from tests.fuzz.targets import ALL

RUNS = 20_000
"""More than a thousand inputs a target; libFuzzer's own number for reproducing it is fixed below."""


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_nothing_is_found_in_a_few_thousand_inputs(tmp_path: Path) -> None:
    if not is_there():
        pytest.skip(NO_ATHERIS)
    run = await fuzz(ALL, f"-runs={RUNS}", "-seed=1", seconds=300, kept=tmp_path)
    assert not run.finding, run.finding
    assert run.inputs >= RUNS
    assert run.covered > 500, "it is guided by what it reaches in our code"
