"""One fault, from the calm before it to the reckoning after it."""

import asyncio
import time
from dataclasses import dataclass

from shared.lifecycle import background
from tests.chaos.evidence import settle
from tests.chaos.faults import Fault, Scene
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.oracle import Admission
from tests.chaos.recovery import recover
from tests.chaos.report import Row, row
from tests.chaos.signs import Signs
from tests.chaos.stage import Stage
from tests.support.api import Api


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of it."""

    admissions: int = 2000
    """At least so many in all."""
    pace: float = 40.0
    """Pods a second."""
    calm: float = 5.0
    """Seconds before the fault, by which it is measured."""
    held: float | None = None
    """Seconds the fault is held; None: as each says."""
    patience: float = 60.0
    """Seconds without anything new after which what is missing is missing."""


ENOUGH = 0.2
"""Seconds between two looks at how many admissions there are."""


async def run(stage: Stage, fault: Fault, size: Size) -> Row:
    """The row of the report."""
    namespace = (await stage.namespace()).namespace
    signs = Signs(stage)
    async with (
        Ledger(stage.nats_cluster.options("operator"), namespace) as ledger,
        stage.api() as api,
        background(ledger.follow(), *signs.watches()),
    ):
        scene = Scene(stage=stage, namespace=namespace, ledger=ledger, signs=signs)
        load = Load(api, namespace, pace=size.pace)
        began = time.monotonic()
        loading = asyncio.create_task(load.run())
        try:
            recovery, probes = await _fault(scene, fault, size, api)
            while len(load.admissions) < size.admissions:
                await asyncio.sleep(ENOUGH)
        finally:
            load.stop()
            await loading
        admissions: list[Admission] = [*load.admissions, *probes]
        await stage.everything_runs()
        reckoning = await settle(api, namespace, ledger, admissions, size.patience)
    bites = signs.found(load.admissions, began)
    return row(
        fault.name,
        admissions=len(admissions),
        reckoning=reckoning,
        recovery=recovery,
        bites=bites,
        signs=fault.signs,
    )


async def _fault(scene: Scene, fault: Fault, size: Size, api: Api) -> tuple[float | None, list[Admission]]:
    await asyncio.sleep(size.calm)
    scene.signs.begin()
    async with fault.inflict(scene):
        await asyncio.sleep(fault.held if size.held is None else min(fault.held, size.held))
    scene.signs.end()
    return await recover(api, scene.namespace, scene.ledger)
