"""Whatever an Anchore answers to whichever call: each fault has its own outcome, and nothing wrong is kept of it.

Three images meet the fault at once, one in each call of a scan; beside them the bundles' list meets it.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deploy.dev.nats import NatsServer
from services.scanner import breaker, delays
from shared import anchore as transport
from shared import consumer
from shared.broker import Broker
from shared.contracts import ErrorClass, Result, ScanError, ScanState
from tests.support.anchore import anchore
from tests.support.scanners import CALLS
from tests.support.scene import DEFAULT, FENCE, Scene, scene_on

ADDED = "registry.example/bulk/added:1"
CHECKED = "registry.example/bulk/checked:1"
PENDING = "registry.example/slow/pending:1"

WAITED = ErrorClass.ANCHORE_UNAVAILABLE
"""Nobody answers: that is said, the request is held, and answered without another one."""

CONFUSED, REFUSED = ErrorClass.ANCHORE_NOT_UNDERSTOOD, ErrorClass.ANCHORE_UNAUTHORIZED
"""An answer, if no good one: that is said, and the next request is asked anew."""

SILENT = None
"""Tried again without a word."""

LASTING = {"times": -1}
"""Until its outcome is seen: aiohttp itself repeats a GET once when a connection that was open before is reset."""

KINDS: dict[str, tuple[dict[str, Any], ErrorClass | None, str]] = {
    "reset": (LASTING, WAITED, "none"),
    "truncated": (LASTING, WAITED, "none"),
    "truncated, but done": ({**LASTING, "after": True}, WAITED, "none"),
    "hang": (LASTING, WAITED, "none"),
    "too_many": ({**LASTING, "retry_after": 1}, WAITED, "429"),
    "error, a proxy's": ({**LASTING, "status": 503}, WAITED, "503"),
    "error": ({"times": 2}, SILENT, "500"),
    "unauthorized": ({}, REFUSED, "401"),
    "not_found": ({}, CONFUSED, "404"),
    "wrong_json": ({}, CONFUSED, "200"),
    "wrong_shape": ({}, CONFUSED, "200"),
    "html": ({}, CONFUSED, "200"),
    "huge": ({}, CONFUSED, "200"),
}
"""The fault, what comes of it, and the code that it is counted by."""

EXCEPTIONS = {("not_found", "image_get"): SILENT}
"""A record that is gone: the image is added again."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "CALL_TIMEOUT", 0.5)
    monkeypatch.setattr(delays, "FIRST_LOOK", 0.1)
    monkeypatch.setattr(delays, "LONGEST_LOOK", 0.4)
    monkeypatch.setattr(consumer, "PROBE_WAIT", 0.1)
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.1)


@pytest.fixture(params=["v1", "v2"])
async def scene(
    request: pytest.FixtureRequest, nats_server: NatsServer, broker: Broker
) -> AsyncIterator[Scene]:
    async with (
        anchore(apis=(request.param,)) as simulator,
        scene_on(nats_server, broker, simulator, request.param) as scene,
    ):
        for image in (ADDED, CHECKED, FENCE):
            simulator.preload(image)
        yield scene


def errors_of(scene: Scene, image: str) -> list[ErrorClass]:
    """Every error state that the image ever gets."""
    errors: list[ErrorClass] = []

    def note(state: ScanState) -> None:
        if isinstance(state, ScanError) and state.attempt > len(errors):  # noted again when it is begun again
            errors.append(state.error)

    scene.on_state(image, note)
    return errors


async def no_verdict_is_kept(scene: Scene, image: str) -> None:
    assert await scene.buckets.verdict(scene.key(image)) == (None, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_fault_in_a_scan_has_its_own_outcome(scene: Scene, kind: str) -> None:
    more, usual, code = KINDS[kind]
    fault = kind.split(",", maxsplit=1)[0]
    digest = scene.simulator.image(PENDING).digest
    stricken = {"image_add": ADDED, "check": CHECKED, "image_get": PENDING}
    errors = {image: errors_of(scene, image) for image in stricken.values()}
    async with scene.scanner():
        assert await scene.ask(PENDING)
        await scene.pending(PENDING)
        for operation, image in stricken.items():
            scene.fault(operation, fault, image=digest if image is PENDING else image, **more)
        assert await scene.ask(ADDED)
        assert await scene.ask(CHECKED)
        for operation, image in stricken.items():
            if expected := EXCEPTIONS.get((kind, operation), usual):
                await scene.error(image, expected)
                await no_verdict_is_kept(scene, image)
                if expected is WAITED:
                    scene.heal(operation)
                else:
                    await scene.ask_again(image)
        scene.simulator.engine.clock.advance(31)
        for image in stricken.values():
            assert (await scene.verdict(image)).verdict.result is Result.PASS
            await scene.cleared(image)
        assert (await scene.scanned(FENCE)).result is Result.PASS
        counted = await scene.metrics(CALLS)
    for operation, image in stricken.items():
        expected = EXCEPTIONS.get((kind, operation), usual)
        assert errors[image] == ([expected] if expected else []), operation
        codes = {labels.split('"')[1] for labels in counted if f'operation="{operation}"' in labels}
        assert {code} <= codes <= {"200", code}, operation
    assert scene.simulator.faults.pending == []


@pytest.mark.parametrize("kind", KINDS)
async def test_no_bundles_no_verdict_until_they_can_be_read(scene: Scene, kind: str) -> None:
    """Without the record of the bundles nobody can say what a verdict is worth."""
    more, usual, code = KINDS[kind]
    scene.fault("policies_list", kind.split(",", maxsplit=1)[0], **{**more, **LASTING})
    async with scene.scanner():
        assert await scene.ask(ADDED)
        await scene.error(ADDED, usual or WAITED)
        await no_verdict_is_kept(scene, ADDED)
        assert await scene.buckets.tenant(scene.tenant) is None
        assert scene.calls() == {}, "what cannot be labelled need not be asked"
        counted = await scene.metrics(CALLS)
        scene.heal("policies_list")
        if usual in {CONFUSED, REFUSED}:
            await scene.ask_again(ADDED)
        verdict = (await scene.verdict(ADDED)).verdict
        record = await scene.record(lambda record: record.away_since is None)
    assert verdict.bundle_hash == record.bundles[DEFAULT]
    assert {labels.split('"')[1] for labels in counted} == {code}


async def test_a_server_that_does_not_listen_is_waited_for(scene: Scene) -> None:
    async with scene.scanner():
        await scene.scanned(FENCE)
        known = await scene.verdict(FENCE)
        assert await scene.ask(PENDING)
        await scene.pending(PENDING)
        await scene.simulator.refuse_connections()
        for image in (ADDED, CHECKED):
            assert await scene.ask(image)
        for image in (ADDED, CHECKED, PENDING):
            await scene.error(image, WAITED)
            assert not await scene.ask(image), "the request is held"
            await no_verdict_is_kept(scene, image)
        away = await scene.record(lambda record: record.away_since is not None)
        assert away.bundles, "what is in force is still known"
        assert scene.mirror.verdict(scene.key(FENCE)) == known, "what is known stays known"
        assert (await scene.metrics(CALLS))['code="none",operation="policies_list"'] >= 1
        await scene.simulator.listen()
        scene.simulator.engine.clock.advance(31)
        for image in (ADDED, CHECKED, PENDING):
            assert (await scene.verdict(image)).verdict.result is Result.PASS
            await scene.cleared(image)
        await scene.record(lambda record: record.away_since is None)
