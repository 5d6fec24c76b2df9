"""An Anchore in trouble is spared, and its tenant's alone; what is asked without a lifetime or across an edit is answered right."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from services.gateway.deadlines import Deadline
from services.gateway.findings import Question
from services.gateway.metrics import GatewayMetrics
from services.gateway.scan_rates import Rate, ScanRates
from services.gateway.verdict_lookup import VerdictLookup
from services.scanner import breaker, delays, limits
from shared import images, streams
from shared.broker import Broker
from shared.contracts import ErrorClass, Outcome, Result
from shared.subjects import Lane
from tests.support.anchore import anchore, bundle, rule
from tests.support.builders import rule as rule_of_policy
from tests.support.road import until
from tests.support.scanners import CALLS, ScannerProcess, tell
from tests.support.scene import Scene, add_bundle, hold, scene_on

BULK = "registry.example/bulk"
GOOD = f"{BULK}/good:1"
WAITING = 200
AWAY_FOR = 30.0
"""Seconds that nobody listens."""

A_MINUTE = 8
"""Questions a minute to one that is away, at most."""

AT_ONCE = 16
"""Calls that find out that it is away: those under way, one of each image."""

NOTICED_WITHIN = 25.0
"""Seconds until everything is answered that waited for an Anchore that is back."""


@pytest.mark.long
async def test_an_anchore_that_is_away_is_spared_and_all_are_answered_once_it_is_back(scene: Scene) -> None:
    loop = asyncio.get_running_loop()
    waiting = [f"{BULK}/waiting-{number}:1" for number in range(WAITING)]
    for image in (GOOD, *waiting):
        scene.simulator.preload(image)
    async with scene.scanner():
        await scene.scanned(GOOD)
        await scene.simulator.refuse_connections()
        began = loop.time()
        assert all(await asyncio.gather(*(scene.ask(image) for image in waiting)))
        await scene.record(lambda record: record.away_since is not None)
        first = await attempts(scene)
        await asyncio.sleep(AWAY_FOR - (loop.time() - began))  # so long it is away
        later = await attempts(scene) - first
        seconds = loop.time() - began
        tell(f"{first:.0f} attempts at first, {later:.0f} in {seconds:.0f} s")
        assert first <= AT_ONCE
        assert later <= A_MINUTE * seconds / 60 + 3, "the pauses grow: at first they are short"
        for image in waiting:
            assert await scene.buckets.verdict(scene.key(image)) == (None, 0)
        await scene.simulator.listen()
        back = loop.time()
        found = await asyncio.gather(*(scene.verdict(image, within=60) for image in waiting))
        tell(f"all answered {loop.time() - back:.1f} s after it was back")
        assert loop.time() - back < NOTICED_WITHIN
    assert {each.verdict.result for each in found} == {Result.PASS}
    assert scene.simulator.calls("check") <= 2 + WAITING, "one of each, and one to see whether it is well"


async def attempts(scene: Scene) -> float:
    """Calls that found nobody."""
    found = await scene.metrics(CALLS)
    return sum(value for labels, value in found.items() if 'code="none"' in labels)


async def test_an_anchore_that_comes_back_with_another_password_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.1)
    scene.simulator.preload(GOOD)
    await scene.simulator.refuse_connections()
    async with scene.scanner(password="old"):
        assert await scene.ask(GOOD)
        await scene.error(GOOD, ErrorClass.ANCHORE_UNAVAILABLE)
        await scene.simulator.listen()
        await scene.state(
            GOOD, lambda state: getattr(state, "error", None) is ErrorClass.ANCHORE_UNAUTHORIZED
        )


async def is_asked(scene: Scene) -> bool:
    counters = scene.simulator.counters
    return bool(counters.concurrent or counters.calls)


@pytest.mark.parametrize("trouble", ["hang", "error", "unauthorized", "reset"])
async def test_one_tenants_trouble_delays_no_other_tenant(
    nats_server: NatsServer, broker: Broker, tmp_path: Path, trouble: str
) -> None:
    async with AsyncExitStack() as stack:
        ill, well = [
            await stack.enter_async_context(
                scene_on(nats_server, broker, await stack.enter_async_context(anchore()))
            )
            for _ in range(2)
        ]
        ill.fault("*", trouble, times=-1)
        urls = {scene.tenant: scene.simulator.url for scene in (ill, well)}
        await stack.enter_async_context(ScannerProcess(tmp_path, nats_server, urls))
        assert all(await asyncio.gather(*(ill.ask(f"{BULK}/ill-{number}:1") for number in range(100))))
        await until(lambda: is_asked(ill), "the ill one is asked")
        for number in range(20):
            image = f"{BULK}/well-{number}:1"
            well.simulator.preload(image)
            async with asyncio.timeout(1):
                assert (await well.scanned(image)).result is Result.PASS


async def has_nothing_waiting(scene: Scene) -> bool:
    return not any(await streams.lane_backlog(scene.broker, Lane.ADMISSION, scene.tenant))


async def test_without_a_lifetime_every_admission_scans_anew(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    rates = ScanRates(Rate(10_000, 1.0), lambda: 0.0)
    lookup = VerdictLookup(scene.mirror, scene.broker, rates, GatewayMetrics(CollectorRegistry()))
    question = Question(images.parse(GOOD), rule_of_policy(tenant=scene.tenant), is_worth_waiting=True)
    async with scene.scanner(PASS_TTL="0", FAIL_TTL="0", TAG_TTL="0"):
        await scene.record(lambda record: record.active_bundle_id is not None)
        for number in range(1, 6):
            deadline = Deadline(asyncio.get_running_loop().time() + 3)
            [finding], _ = await lookup.find([question], "shop", deadline, "")
            assert finding.evidence.outcome is Outcome.PASS
            assert scene.simulator.calls("check") == number
            await until(lambda: has_nothing_waiting(scene), "the request before is acknowledged")


async def test_a_bundle_edited_during_a_check_labels_the_verdict_with_what_was_evaluated(
    scene: Scene,
) -> None:
    mild, strict = bundle(name="b"), bundle(rule("always", "always"), name="b")
    await add_bundle(scene.simulator, mild, active=True)
    scene.simulator.preload(GOOD)
    async with scene.scanner():
        first = await scene.scanned(GOOD, bundle_id="b")
        seen = (await scene.verdict(GOOD, bundle_id="b")).revision
        with hold(scene.simulator, "check") as held:
            await scene.ask_again(GOOD, bundle_id="b", seen=seen)
            await asyncio.wait_for(held.arrived.wait(), 10)
            await add_bundle(scene.simulator, strict, active=True)
        second = (await scene.verdict(GOOD, seen, bundle_id="b")).verdict
        record = await scene.record(lambda record: record.bundles.get("b") != first.bundle_hash)
    assert (first.result, second.result) == (Result.PASS, Result.FAIL)
    assert second.bundle_hash == record.bundles["b"] != first.bundle_hash


async def test_an_anchore_that_evaluates_nothing_is_away_though_it_says_that_it_is_well(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delays, "FIRST_LOOK", 0.1)
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.1)
    other = f"{BULK}/other:1"
    for image in (GOOD, other):
        scene.simulator.preload(image)
    async with scene.scanner():
        await scene.scanned(GOOD)
        scene.simulator.stop_services("policy_engine")
        assert await scene.ask(other)
        await scene.error(other, ErrorClass.ANCHORE_UNAVAILABLE)
        await scene.record(lambda record: record.away_since is not None)
        assert (await scene.metrics(CALLS))['code="404",operation="health_check"'] >= 1
        assert await scene.buckets.verdict(scene.key(other)) == (None, 0)
        scene.simulator.stop_services()
        await scene.record(lambda record: record.away_since is None)
        assert (await scene.scanned(other)).result is Result.PASS


async def test_equal_calls_at_once_that_the_engine_stumbles_over_end_well(
    nats_server: NatsServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lanes ask for the same new image: the real server answers some of the equal calls with an error."""
    monkeypatch.setattr(delays, "FIRST_LOOK", 0.1)
    new = [f"{BULK}/new-{number}:1" for number in range(limits.START)]
    async with (
        anchore(concurrency_traps=True) as simulator,
        scene_on(nats_server, broker, simulator) as scene,
    ):
        async with scene.scanner():
            with hold(simulator, "image_add", times=2 * len(new)):
                for number, lane in enumerate(
                    (Lane.RESCAN, Lane.ADMISSION), 1
                ):  # re-scans wait for admissions
                    assert all(await asyncio.gather(*(scene.ask(image, lane) for image in new)))
                    await until(partial(are_in_hand, scene, number * len(new)), "equal calls are in hand")
            for image in new:
                assert (await scene.verdict(image)).verdict.result is Result.PASS
        assert 500 in {seen.status for seen in simulator.counters.journal}, "nothing was stumbled over"


async def are_in_hand(scene: Scene, calls: int) -> bool:
    return scene.simulator.counters.concurrent >= calls
