"""A scanner that is killed, or that stands still and wakes: nothing is lost, and nothing old is believed."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.dev.anchore.catalogue import Vulnerability
from deploy.dev.nats import NatsServer
from shared import streams
from shared.contracts import Result
from tests.support.road import until
from tests.support.scanners import ScannerProcess, metrics, tell
from tests.support.scene import WITHIN, Scene, hold

IMAGES = [f"registry.example/bulk/killed-{number}:1" for number in range(20)]
STILL = "registry.example/bulk/still:1"
FINDING = Vulnerability(id="CVE-2026-1", package="openssl", version="1", severity="Critical", fix="2")
STOOD_STILL = 20.0
CHECK_SECONDS = 0.5
MARGIN = 6.0
"""Seconds for the scan itself, once it is begun again."""


@pytest.mark.long
async def test_a_killed_scanner_delays_its_scans_by_the_ack_wait_and_loses_none(
    scene: Scene, two: tuple[ScannerProcess, ScannerProcess]
) -> None:
    assert streams.ACK_WAIT == 8
    doomed, _ = two
    for image in IMAGES:
        scene.simulator.preload(image)
    scene.simulator.set_latency(CHECK_SECONDS, "check")
    began = time.monotonic()
    assert all(await asyncio.gather(*(scene.ask(image) for image in IMAGES)))
    with hold(scene.simulator, "check") as held:
        await asyncio.wait_for(held.arrived.wait(), 10)
        doomed.kill()
        killed = time.monotonic()
    answered = await asyncio.gather(*(answered_at(scene, image) for image in IMAGES))
    late = [at - killed for at in answered if at - killed > MARGIN + CHECK_SECONDS]
    tell(f"killed after {killed - began:.2f} s, late: {[f'{seconds:.1f}' for seconds in sorted(late)]}")
    assert late, "the killed scanner had nothing in hand"
    assert max(late) <= streams.ACK_WAIT + MARGIN


@pytest.mark.long
async def test_a_scanner_that_stood_still_changes_nothing_when_it_wakes(
    scene: Scene, nats_server: NatsServer, tmp_path: Path
) -> None:
    scene.simulator.preload(STILL)
    tenants = {scene.tenant: scene.simulator.url}
    async with ScannerProcess(tmp_path, nats_server, tenants) as sleeper:
        with hold(scene.simulator, "check") as held:
            assert await scene.ask(STILL)
            await asyncio.wait_for(held.arrived.wait(), WITHIN)
            sleeper.pause()
        paused = time.monotonic()

        async def is_answered() -> bool:
            return scene.simulator.calls("check") == 1

        await until(is_answered, "the old answer is on its way")
        scene.simulator.set_vulnerabilities(STILL, (FINDING,))
        async with ScannerProcess(tmp_path, nats_server, tenants):
            written = await scene.verdict(STILL, within=20)
            assert written.verdict.result is Result.FAIL
            assert time.monotonic() - paused < streams.ACK_WAIT + MARGIN
            await asyncio.sleep(
                max(0.0, STOOD_STILL - (time.monotonic() - paused))
            )  # so long it stands still
            sleeper.resume()

            async def has_woken() -> float:
                return (await metrics(sleeper.port, "moorgate_scans_total")).get('result="dropped"', 0)

            assert await until(has_woken, "the old answer is dropped") == 1
            assert scene.mirror.verdict(scene.key(STILL)) == written
            assert await scene.buckets.verdict(scene.key(STILL)) == (written.verdict, written.revision)
            assert scene.mirror.state(scene.key(STILL)) is None
            again = await scene.scanned(STILL, seen=written.revision)
            assert again.result is Result.FAIL


async def answered_at(scene: Scene, image: str) -> float:
    assert (await scene.verdict(image, within=30)).verdict.result is Result.PASS
    return time.monotonic()


@pytest.fixture
async def two(
    scene: Scene, nats_server: NatsServer, tmp_path: Path
) -> AsyncIterator[tuple[ScannerProcess, ScannerProcess]]:
    """Two scanners of the scene's tenant."""
    tenants = {scene.tenant: scene.simulator.url}
    async with (
        ScannerProcess(tmp_path, nats_server, tenants) as first,
        ScannerProcess(tmp_path, nats_server, tenants) as second,
    ):
        yield first, second
