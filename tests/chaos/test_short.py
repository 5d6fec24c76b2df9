"""The short form of `make chaos`: two faults on one stage, with a load that takes a few seconds."""

from pathlib import Path

import pytest

from deploy.dev.controlplane import ControlPlane
from tests.chaos import trial
from tests.chaos.faults import named
from tests.chaos.stage import Shape, open_stage
from tests.chaos.trial import Size

SHORT = Size(admissions=150, pace=12, calm=2, held=4)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_nothing_is_lost_and_nobody_let_in(control_plane: ControlPlane, tmp_path: Path) -> None:
    async with open_stage(control_plane, tmp_path, Shape.PLAIN) as stage:
        for fault in named(["nats-killed", "scanner-killed"]):
            row = await trial.run(stage, fault, SHORT)
            assert row.admissions >= SHORT.admissions
            assert not row.troubles, row
