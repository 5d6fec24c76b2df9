"""The simulator's latencies: what a curve says, that constant concurrency gives the throughput it promises, and the door to it."""

import asyncio
import time

import pytest

from deploy.dev.anchore.latency import Crowd, recorded
from tests.support.anchore import anchore, client
from tests.support.virtual_time import virtually

BULK = "registry.example/bulk/a:1"


@pytest.mark.parametrize(("calls", "seconds"), [(1, 0.15), (4, 0.25), (8, 0.93), (12, 1.99)])
def test_the_recorded_curve(calls: int, seconds: float) -> None:
    assert recorded(calls) == pytest.approx(seconds, abs=0.01)


def test_the_recorded_curve_always_rises_and_faster_than_the_load_from_4_on() -> None:
    seconds = [recorded(calls) for calls in range(1, 40)]
    assert seconds == sorted(seconds)
    loads = [taken / calls for calls, taken in enumerate(seconds, 1)]
    assert loads[3:] == sorted(loads[3:])


@virtually
async def test_constant_concurrency_gives_the_promised_throughput() -> None:
    for calls in (1, 4, 12):
        assert await ended_in(100.0, calls) == pytest.approx(100 * calls / recorded(calls), abs=2 * calls)


async def ended_in(seconds: float, calls: int) -> int:
    """How many calls end when so many are always in hand."""
    crowd, ended = Crowd(recorded), 0

    async def call_again_and_again() -> None:
        nonlocal ended
        while True:
            await crowd.pass_through()
            ended += 1

    tasks = [asyncio.create_task(call_again_and_again()) for _ in range(calls)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return ended


@virtually
async def test_calls_at_once_are_all_as_slow_as_the_crowd_is_large() -> None:
    crowd, loop = Crowd(recorded), asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(crowd.pass_through() for _ in range(12)))
    assert loop.time() - began == pytest.approx(recorded(12), abs=0.01)


@virtually
async def test_a_call_that_is_given_up_hinders_nobody_any_more() -> None:
    crowd, loop = Crowd(float), asyncio.get_running_loop()
    began = loop.time()
    others = [asyncio.create_task(crowd.pass_through()) for _ in range(3)]
    await asyncio.sleep(2)  # two thirds of the work of each are done
    for other in others[1:]:
        other.cancel()
    await others[0]
    await asyncio.gather(*others[1:], return_exceptions=True)
    assert loop.time() - began == pytest.approx(2 + 1 / 3, abs=0.01)


async def test_the_curve_is_set_by_the_door_and_taken_away() -> None:
    async with anchore() as simulator, client(simulator) as api:
        path = f"/v2/images/{simulator.preload(BULK).digest}/check"

        async def check() -> float:
            began = time.monotonic()
            async with api.get(path, params={"tag": BULK}) as response:
                assert response.status == 200
            return time.monotonic() - began

        async def command(**body: str) -> int:
            async with api.post("/simulator/latency", json=body) as response:
                return response.status

        assert await command(operation="check", curve="no-such") == 400
        assert await command(operation="check", curve="recorded") == 200
        assert await check() > 0.14
        assert min(await asyncio.gather(*(check() for _ in range(4)))) > 0.24
        assert await command(operation="check") == 200
        assert await check() < 0.14


async def test_the_curve_is_a_setting() -> None:
    async with anchore(check_curve="recorded") as simulator, client(simulator) as api:
        path = f"/v1/images/{simulator.preload(BULK).digest}/check"
        began = time.monotonic()
        async with api.get(path, params={"tag": BULK}) as response:
            assert response.status == 200
        assert time.monotonic() - began > 0.14
