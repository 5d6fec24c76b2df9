"""How many checks are asked at once finds itself: against a server that gets slower the more it is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from deploy.dev.anchore.latency import recorded
from deploy.dev.nats import NatsServer
from services.scanner import guard
from services.scanner.limits import CallLimit
from shared import subjects
from shared.broker import Broker
from shared.subjects import Lane
from tests.support.anchore import anchore
from tests.support.scanners import tell
from tests.support.scene import Scene, scene_on

MAXIMUM = 16
BEST = max(calls / recorded(calls) for calls in range(1, MAXIMUM + 1))
"""Checks a second that the server bears at most: 16, four at once."""

FOUND_AFTER, MEASURED_FOR, WINDOW = 20, 30, 10
"""Seconds."""

GOOD_ENOUGH = 0.7
"""Of the best. It is 0.9 and more where nothing else runs; a busy machine's own delays count here too."""

IMAGES = int(BEST * (FOUND_AFTER + MEASURED_FOR)) + 100


@pytest.mark.long
async def test_the_bound_climbs_to_the_best_throughput_from_above_and_from_below(
    nats_server: NatsServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        found = {}
        for start in (MAXIMUM, 1):
            monkeypatch.setattr(guard, "CallLimit", partial(CallLimit, start=start))
            found[start] = await stack.enter_async_context(busy(nats_server, broker))
        ratios = dict(zip(found, await asyncio.gather(*map(throughput, found.values())), strict=True))
    for start, windows in ratios.items():
        shown = ", ".join(f"{ratio:.2f}" for ratio in windows)
        tell(f"from {start}: {shown} of the best {BEST:.0f}/s in windows of {WINDOW} s")
    assert min(min(windows) for windows in ratios.values()) >= GOOD_ENOUGH, ratios


@asynccontextmanager
async def busy(nats_server: NatsServer, broker: Broker) -> AsyncIterator[Scene]:
    """A scanner with more to do than its Anchore bears, in both lanes."""
    async with (
        anchore(check_curve="recorded") as simulator,
        scene_on(nats_server, broker, simulator) as scene,
    ):
        images = {
            lane: [f"registry.example/bulk/{lane}-{number}:1" for number in range(IMAGES)] for lane in Lane
        }
        for lane in Lane:
            for image in images[lane]:
                simulator.preload(image)
            assert all(await asyncio.gather(*(scene.ask(image, lane) for image in images[lane])))
        async with scene.scanner(SCANNER_CONCURRENCY=str(MAXIMUM)):
            await scene.lane_is_there(subjects.lane_durable(Lane.ADMISSION, scene.tenant))
            yield scene


async def throughput(scene: Scene) -> list[float]:
    """Checks a second, as part of the best there are, in each window."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(FOUND_AFTER)
    windows = []
    for number in range(1, MEASURED_FOR // WINDOW + 1):
        since, before = loop.time(), scene.simulator.calls("check")
        await asyncio.sleep(began + FOUND_AFTER + number * WINDOW - since)
        windows.append((scene.simulator.calls("check") - before) / (loop.time() - since) / BEST)
    return windows
