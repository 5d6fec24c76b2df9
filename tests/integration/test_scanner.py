"""Requests become verdicts: the real scanner between a real NATS and the Anchore simulator.

Every test has a tenant of its own, and with it lanes and keys of its own. Time is the simulator's where an analysis takes
long; delays that the scanner waits for are shortened, their real values are tested in tests/scanner.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from deploy.dev.anchore.catalogue import Content
from services.scanner import breaker, bundles, delays
from shared import consumer, contracts, streams, subjects
from shared.buckets import Bucket
from shared.contracts import (
    ErrorClass,
    Result,
    ScanError,
    ScanPending,
    ScanRequest,
    ScanState,
    TenantRecord,
)
from shared.errors import Conflict, Unavailable
from shared.subjects import Lane
from shared.verdict_store import VerdictBuckets
from tests.support.anchore import Simulator, bundle, rule, selection
from tests.support.scene import DEFAULT, FENCE, WITHIN, Scene, add_bundle, hold, lie

GOOD = "registry.example/bulk/good:1"
BAD = "registry.example/bad/app:1"
SLOW = "registry.example/slow/app:1"
BROKEN = "registry.example/broken/app:1"
MULTI = "registry.example/team/multi:1.0"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for seconds here."""
    monkeypatch.setattr(delays, "FIRST_LOOK", 0.1)
    monkeypatch.setattr(delays, "LONGEST_LOOK", 0.8)
    monkeypatch.setattr(consumer, "PROBE_WAIT", 0.1)


def having(seen: list[Any], count: int) -> Callable[[ScanState], bool]:
    """Fits once so many have been seen."""
    return lambda _: len(seen) == count


def checked_tags(simulator: Simulator) -> list[str]:
    """The tags that checks were asked under."""
    return [
        image
        for seen in simulator.counters.journal
        if seen.operation == "check"
        for image in seen.images
        if not image.startswith("sha256:")
    ]


# One request.


async def test_an_analysed_image_costs_two_calls(scene: Scene) -> None:
    image = scene.simulator.preload(GOOD)
    before = datetime.now(UTC)
    async with scene.scanner():
        verdict = await scene.scanned(GOOD)
        record = await scene.buckets.tenant(scene.tenant)
    assert scene.calls() == {"image_add": 1, "check": 1}
    assert scene.simulator.engine.directory.space("admin").history == {}, "a look leaves no trace"
    assert (verdict.tenant, verdict.image, verdict.result) == (scene.tenant, GOOD, Result.PASS)
    assert (verdict.digest, verdict.list_digest) == (image.digest, image.digest)
    assert before <= verdict.evaluated_at <= datetime.now(UTC)
    assert verdict.fresh_until - verdict.evaluated_at == timedelta(minutes=15)
    assert verdict.known_until - verdict.evaluated_at == timedelta(hours=168)
    assert record is not None
    assert record.active_bundle_id == verdict.bundle_id == DEFAULT
    assert verdict.bundle_hash == record.bundles[DEFAULT]
    assert scene.mirror.state(scene.key(GOOD)) is None


async def test_a_failing_image_says_why_and_since_when(scene: Scene) -> None:
    scene.simulator.preload(BAD)
    async with scene.scanner():
        first = await scene.scanned(BAD)
        revision = (await scene.verdict(BAD)).revision
        second = await scene.scanned(BAD, seen=revision)
    assert first.result is second.result is Result.FAIL
    assert (first.reasons[0].gate, first.reasons[0].trigger) == ("vulnerabilities", "package")
    assert first.reasons[0].action == "stop"
    assert "CVE-2026-90030" in first.reasons[0].text
    assert first.fresh_until - first.evaluated_at == timedelta(minutes=5)
    assert first.failing_since == second.failing_since == first.evaluated_at < second.evaluated_at


async def test_exactly_the_bundle_asked_for_is_checked(scene: Scene) -> None:
    strict = bundle(rule("always", "always"), name="strict")
    await add_bundle(scene.simulator, strict)
    scene.simulator.preload(GOOD)
    async with scene.scanner():
        assert (await scene.scanned(GOOD)).result is Result.PASS
        verdict = await scene.scanned(GOOD, bundle_id="strict")
        assert (verdict.result, verdict.bundle_id) == (Result.FAIL, "strict")
        record = await scene.buckets.tenant(scene.tenant)
        assert record is not None
        assert verdict.bundle_hash == record.bundles["strict"] != record.bundles[DEFAULT]
        assert record.active_bundle_id == DEFAULT


async def test_a_bundle_that_is_not_there(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    async with scene.scanner():
        assert await scene.ask(GOOD, bundle_id="gone")
        key = scene.key(GOOD, "gone")
        state = await scene._until(key, lambda: scene.mirror.state(key))
    assert isinstance(state, ScanError)
    assert state.error is ErrorClass.BUNDLE_UNKNOWN


async def test_a_list_and_its_image_have_two_digests(scene: Scene) -> None:
    image = scene.simulator.preload(MULTI)
    assert image.digest != image.list_digest
    async with scene.scanner():
        verdict = await scene.scanned(MULTI)
    assert (verdict.digest, verdict.list_digest) == (image.digest, image.list_digest)


@pytest.mark.parametrize("tag", ["", ":1.0", ":never-pushed"])
@pytest.mark.parametrize("which", ["digest", "list_digest"])
async def test_a_digest_is_checked_under_a_tag_of_its_own(scene: Scene, tag: str, which: str) -> None:
    """Whatever tag stands beside it: Anchore would believe it, and choose the bundle's mapping by it."""
    image = scene.simulator.preload(MULTI)
    digest: str = getattr(image, which)
    reference = f"registry.example/team/multi{tag}@{digest}"
    async with scene.scanner():
        verdict = await scene.scanned(reference)
        await scene.cleared(reference)
    assert (verdict.image, verdict.result) == (reference, Result.PASS)
    assert (verdict.digest, verdict.list_digest) == (image.digest, image.list_digest)
    assert verdict.fresh_until - verdict.evaluated_at == timedelta(hours=6)
    assert checked_tags(scene.simulator) == [f"registry.example/team/multi:{digest.replace(':', '-')}"]


async def test_without_times_to_live_a_verdict_is_stale_at_once(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    async with scene.scanner(PASS_TTL="0", FAIL_TTL="0", TAG_TTL="0", KNOWN_TTL="60s"):
        verdict = await scene.scanned(GOOD)
        assert 55 <= await scene.lifetime(subjects.VERDICTS, scene.key(GOOD)) <= 60
    assert verdict.fresh_until == verdict.evaluated_at
    assert verdict.known_until - verdict.evaluated_at == timedelta(minutes=1)


@pytest.mark.parametrize(("setting", "result"), [("pass", Result.PASS), ("fail", Result.FAIL)])
async def test_an_image_that_no_mapping_matches(scene: Scene, setting: str, result: Result) -> None:
    elsewhere = {
        **selection(registry="nowhere.example"),
        "id": "m",
        "policy_ids": ["p"],
        "whitelist_ids": ["w"],
    }
    await add_bundle(scene.simulator, bundle(rule("always", "always"), name="narrow", mappings=[elsewhere]))
    scene.simulator.preload(GOOD)
    async with scene.scanner(ON_UNMAPPED=setting):
        verdict = await scene.scanned(GOOD, bundle_id="narrow")
    assert (verdict.result, verdict.unmapped) == (result, True)
    assert "catch-all" in verdict.reasons[0].text


# Asked more than once.


async def test_a_thousand_requests_are_one_scan(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    async with scene.scanner():
        with hold(scene.simulator, "image_add") as held:
            assert await scene.ask(GOOD)
            await asyncio.wait_for(held.arrived.wait(), WITHIN)
            taken = await asyncio.gather(*(scene.ask(GOOD) for _ in range(999)))
        await scene.verdict(GOOD)
        assert not any(taken)
    assert scene.calls() == {"image_add": 1, "check": 1}


async def test_a_newer_verdict_than_the_asker_had_is_the_answer(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    async with scene.scanner(SCANNER_CONCURRENCY="1"):
        await scene.scanned(GOOD)
        stored = await scene.verdict(GOOD)
        before = scene.simulator.calls("check", GOOD), scene.simulator.calls("image_add", GOOD)
        await scene.ask_again(GOOD, seen=0)
        assert await scene.ask(GOOD, Lane.RESCAN, seen=stored.revision - 1)
        await scene.nothing_left()
        await scene.scanned(FENCE, Lane.RESCAN, seen=(await scene.verdict(FENCE)).revision)
        assert (scene.simulator.calls("check", GOOD), scene.simulator.calls("image_add", GOOD)) == before
        assert (await scene.verdict(GOOD)).revision == stored.revision
        await scene.scanned(GOOD, seen=stored.revision)
        assert scene.simulator.calls("check", GOOD) == before[0] + 1


async def test_a_waiting_rescan_delays_no_admission(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    async with scene.scanner(SCANNER_CONCURRENCY="1"):
        with hold(scene.simulator, "image_add") as held:
            assert await scene.ask(GOOD, Lane.RESCAN)
            await asyncio.wait_for(held.arrived.wait(), WITHIN)
            await scene.scanned(GOOD)
            stored = await scene.verdict(GOOD)
        await scene.scanned(FENCE, Lane.RESCAN)
        assert (await scene.verdict(GOOD)).revision == stored.revision, "the re-scan's answer came too late"


@pytest.mark.parametrize("how", ["expired", "purged"])
async def test_a_marker_in_the_bucket_is_written_over(scene: Scene, how: str) -> None:
    scene.simulator.preload(GOOD)
    key = scene.key(GOOD)
    bucket = Bucket(scene.broker, subjects.VERDICTS)
    async with scene.scanner():
        await scene.scanned(GOOD)
        stored = await scene.verdict(GOOD)
        if how == "expired":
            await bucket.put(key, contracts.encode(stored.verdict), ttl=1)
        else:
            await bucket.delete(key)
        await scene._until(key, lambda: scene.mirror.verdict(key) is None or None)
        marker = (await bucket.get(key)).revision
        assert marker > stored.revision
        await scene.ask_again(GOOD, seen=0)
        assert (await scene.verdict(GOOD)).revision > marker
    assert scene.calls() == {"image_add": 2, "check": 2}


async def test_an_answer_older_than_the_verdict_is_dropped(scene: Scene) -> None:
    """As of a scanner that was stopped and wakes: the revision has moved on, whatever the clocks say."""
    scene.simulator.preload(GOOD)
    key = scene.key(GOOD)
    async with scene.scanner(SCANNER_CONCURRENCY="1"):
        await scene.scanned(GOOD)
        seen = await scene.verdict(GOOD)
        with hold(scene.simulator, "check") as held:
            await scene.ask_again(GOOD, seen=seen.revision)
            await asyncio.wait_for(held.arrived.wait(), WITHIN)
            newer = msgspec.structs.replace(seen.verdict, result=Result.FAIL)
            revision = await scene.buckets.put_verdict(key, newer, datetime.now(UTC), over=seen.revision)
        await scene.nothing_left()
        found, after = await scene.buckets.verdict(key)
    assert after == revision
    assert found == newer


async def test_a_scanner_that_dies_in_the_middle_is_replaced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert streams.ACK_WAIT == 8
    monkeypatch.setattr(streams, "ACK_WAIT", 1.0)
    scene.simulator.preload(GOOD)
    async with scene.scanner() as first:
        with hold(scene.simulator, "check") as held:
            assert await scene.ask(GOOD)
            await asyncio.wait_for(held.arrived.wait(), WITHIN)
            async with scene.scanner():
                first.cancel()
                verdict = (await scene.verdict(GOOD)).verdict
    assert verdict.result is Result.PASS
    assert scene.calls()["image_add"] == 2


# Analyses take time.


async def test_an_analysis_under_way_holds_no_worker(scene: Scene) -> None:
    image = scene.simulator.image(SLOW)
    scene.simulator.preload(GOOD)
    async with scene.scanner(SCANNER_CONCURRENCY="1"):
        before = datetime.now(UTC)
        assert await scene.ask(SLOW)
        first = await scene.pending(SLOW)
        assert (first.digest, first.list_digest, first.attempt) == (image.digest, image.list_digest, 1)
        assert before <= first.since <= datetime.now(UTC)
        await scene.scanned(GOOD)
        assert not await scene.ask(SLOW), "the request is still there, put off"
        looks = [first]
        while len(looks) < 4:
            looks.append(await scene.pending(SLOW, lambda state: state.attempt == len(looks) + 1))
        assert {each.since for each in looks} == {first.since}
        assert [each.attempt for each in looks] == [1, 2, 3, 4]
        gaps = [later.next_look - earlier.next_look for earlier, later in pairwise(looks)]
        assert all(
            gap > timedelta(seconds=0.08 * delays.GROWTH**number) for number, gap in enumerate(gaps, 1)
        )
        scene.simulator.engine.clock.advance(31)
        verdict = (await scene.verdict(SLOW)).verdict
        await scene.cleared(SLOW)
    assert (verdict.digest, verdict.result) == (image.digest, Result.PASS)
    assert scene.simulator.calls("image_add", SLOW) == 2, "once to begin with, once because a tag can move"


async def test_an_analysis_that_never_ends(scene: Scene) -> None:
    async with scene.scanner(PENDING_LIMIT="300ms"):
        assert await scene.ask(SLOW)
        await scene.error(SLOW, ErrorClass.ANALYSIS_TOO_SLOW)
        await scene.ask_again(SLOW)
        await scene.pending(SLOW)
    assert scene.mirror.verdict(scene.key(SLOW)) is None


async def test_a_failed_analysis_is_tried_again_when_somebody_asks(scene: Scene) -> None:
    async with scene.scanner():
        assert await scene.ask(BROKEN)
        state = await scene.error(BROKEN, ErrorClass.ANALYSIS_FAILED)
        assert state.attempt == 1
        assert state.until > datetime.now(UTC) + timedelta(seconds=10)
        assert scene.simulator.calls("image_add", BROKEN) == 1
        scene.simulator.fail_analysis(BROKEN, fails=False)
        assert (await scene.scanned(BROKEN)).result is Result.PASS
        await scene.cleared(BROKEN)


async def test_an_error_that_stays_is_kept_longer_each_time(scene: Scene) -> None:
    missing = "registry.example/team/missing:1"
    errors: list[ScanError] = []
    scene.on_state(missing, lambda state: errors.append(state) if isinstance(state, ScanError) else None)
    async with scene.scanner():
        for number in (1, 2, 3):
            await scene.ask_again(missing)
            await scene.state(missing, having(errors, number))
    assert [each.attempt for each in errors] == [1, 2, 3]
    assert {each.since for each in errors} == {errors[0].since}
    lives = [later.until - earlier.until for earlier, later in pairwise(errors)]
    assert all(life > timedelta(seconds=14) for life in lives)


async def test_a_check_that_finds_the_analysis_begun_anew_is_put_off_like_any_other(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    message = "image is not analyzed - analysis_status: analyzing"
    scene.fault("check", "not_found", message=message, times=3)
    async with scene.scanner():
        assert await scene.ask(GOOD)
        first = await scene.pending(GOOD)
        third = await scene.pending(GOOD, lambda state: state.attempt == 3)
        assert third.since == first.since
        assert (await scene.verdict(GOOD)).verdict.result is Result.PASS


async def test_a_tag_pushed_again_during_the_analysis(scene: Scene) -> None:
    judged: set[str] = set()
    key = scene.key(SLOW)
    scene.mirror.verdicts.on_change(
        lambda changed: (
            judged.add(stored.verdict.digest)
            if changed == key and (stored := scene.mirror.verdict(key))
            else None
        )
    )
    async with scene.scanner():
        assert await scene.ask(SLOW)
        before = (await scene.pending(SLOW)).digest
        pushed = scene.simulator.push(SLOW)
        assert pushed.digest != before
        scene.simulator.engine.clock.advance(31)
        moved = await scene.pending(SLOW, lambda state: state.digest == pushed.digest)
        assert moved.attempt == 1
        scene.simulator.engine.clock.advance(31)
        assert (await scene.verdict(SLOW)).verdict.digest == pushed.digest
    assert judged == {pushed.digest}


async def test_a_tag_pushed_again_after_the_verdict(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    async with scene.scanner():
        await scene.scanned(GOOD)
        stored = await scene.verdict(GOOD)
        pushed = scene.simulator.push(GOOD, Content(analysis_seconds=30))
        await scene.ask_again(GOOD, seen=stored.revision)
        assert (await scene.pending(GOOD)).digest == pushed.digest, "the gateway sees that the tag has moved"
        scene.simulator.engine.clock.advance(31)
        assert (await scene.verdict(GOOD, stored.revision)).verdict.digest == pushed.digest


# No verdict to be had.


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("registry.example/team/missing:1", ErrorClass.IMAGE_NOT_FOUND),
        (f"registry.example/team/web@sha256:{'0' * 64}", ErrorClass.IMAGE_NOT_FOUND),
        ("unreachable.example/a:1", ErrorClass.REGISTRY_UNAVAILABLE),
        ("private.example/team/secret:1.0", ErrorClass.REGISTRY_UNAUTHORIZED),
        (f"registry.example/a@sha512:{'0' * 128}", ErrorClass.UNSUPPORTED),
    ],
)
async def test_what_the_registry_cannot_give(scene: Scene, image: str, expected: ErrorClass) -> None:
    async with scene.scanner():
        assert await scene.ask(image)
        await scene.error(image, expected)
    assert scene.mirror.verdict(scene.key(image)) is None
    assert scene.simulator.calls("check") == 0


async def test_a_wrong_password(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    async with scene.scanner(password="wrong"):
        assert await scene.ask(GOOD)
        await scene.error(GOOD, ErrorClass.ANCHORE_UNAUTHORIZED)
    assert await scene.buckets.tenant(scene.tenant) is None


Change = Callable[[Any], Any]


def changed_record(**fields: Any) -> Change:
    return lambda body: [{**body[0], **fields}]


def changed_evaluation(**fields: Any) -> Change:
    def change(body: Any) -> Any:
        [(digest, by_tag)] = body[0].items()
        [(tag, [evaluation])] = by_tag.items()
        return [{digest: {tag: [{**evaluation, **fields}]}}]

    return change


OTHER = f"sha256:{'f' * 64}"
OTHER_TAG = [{"fulltag": "registry.example/bulk/other:1"}]


@pytest.mark.parametrize(
    ("operation", "change"),
    [
        ("image_add", changed_record(image_detail=OTHER_TAG)),
        ("image_add", changed_record(image_detail=[])),
        ("image_add", changed_record(imageDigest="none")),
        ("image_add", changed_record(analysis_status="splendid")),
        ("image_add", lambda body: body * 2),
        ("check", changed_evaluation(policyId="another")),
        ("check", changed_evaluation(status="splendid")),
        ("check", changed_evaluation(detail={})),
        ("check", lambda body: [{OTHER: next(iter(body[0].values()))}]),
        (
            "check",
            lambda body: [{digest: {"r/a:2": next(iter(by.values()))} for digest, by in body[0].items()}],
        ),
        ("check", lambda body: [{digest: {tag: [] for tag in by} for digest, by in body[0].items()}]),
        ("check", lambda _: []),
    ],
)
async def test_what_anchore_says_of_something_else_is_no_verdict(
    scene: Scene, operation: str, change: Change
) -> None:
    scene.simulator.preload(GOOD)
    async with scene.scanner():
        with lie(scene.simulator, operation, change):
            assert await scene.ask(GOOD)
            await scene.error(GOOD, ErrorClass.ANCHORE_NOT_UNDERSTOOD)
        assert (await scene.buckets.verdict(scene.key(GOOD)))[1] == 0
        assert (await scene.scanned(GOOD)).result is Result.PASS


async def test_the_record_of_another_digest_is_no_verdict(scene: Scene) -> None:
    image = scene.simulator.preload(GOOD)
    pinned = f"registry.example/bulk/good@{image.digest}"
    async with scene.scanner():
        with lie(scene.simulator, "image_add", changed_record(imageDigest=OTHER, parentDigest=OTHER)):
            assert await scene.ask(pinned)
            await scene.error(pinned, ErrorClass.ANCHORE_NOT_UNDERSTOOD)


async def test_the_record_of_another_digest_is_no_verdict_while_pending_either(scene: Scene) -> None:
    """The trap: the other image is analysed, and passes."""
    image = scene.simulator.image("registry.example/team/slow:1.0")
    good = scene.simulator.preload(GOOD)
    pinned = f"registry.example/team/slow@{image.digest}"
    lying = changed_record(imageDigest=good.digest, parentDigest=good.digest, analysis_status="analyzed")
    with lie(scene.simulator, "image_get", lying):
        async with scene.scanner():
            assert await scene.ask(pinned)
            await scene.error(pinned, ErrorClass.ANCHORE_NOT_UNDERSTOOD)
            assert scene.mirror.verdict(scene.key(pinned)) is None


# Anchore is in trouble.


@pytest.mark.parametrize(
    ("operation", "kind", "more"),
    [
        ("image_add", "error", {"status": 500}),
        ("check", "error", {"status": 500}),
        ("check", "no_evaluation", {}),
        ("check", "not_found", {"message": "image not found in DB"}),
    ],
)
async def test_an_inner_error_is_tried_again_silently(
    scene: Scene, operation: str, kind: str, more: dict[str, Any]
) -> None:
    scene.simulator.preload(GOOD)
    scene.fault(operation, kind, times=2, **more)
    states: list[ScanState] = []
    scene.on_state(GOOD, states.append)
    async with scene.scanner():
        assert (await scene.scanned(GOOD)).result is Result.PASS
    assert not any(isinstance(state, ScanError) for state in states)
    assert scene.simulator.calls(operation, GOOD) == 3


async def test_an_inner_error_that_stays_is_an_error(scene: Scene) -> None:
    scene.simulator.preload(GOOD)
    scene.fault("check", "error", times=-1)
    async with scene.scanner():
        assert await scene.ask(GOOD)
        await scene.error(GOOD, ErrorClass.ANCHORE_UNAVAILABLE)
        assert scene.simulator.calls("check", GOOD) == delays.MAX_TRIES
        scene.simulator.faults.pending.clear()
        assert (await scene.scanned(GOOD)).result is Result.PASS


async def test_one_inner_error_after_a_long_analysis_is_no_error_state(scene: Scene) -> None:
    """The looks at the analysis are no tries."""
    async with scene.scanner():
        assert await scene.ask(SLOW)
        await scene.pending(SLOW, lambda state: state.attempt == delays.MAX_TRIES)
        scene.fault("check", "no_evaluation")
        scene.simulator.engine.clock.advance(31)
        errors: list[ScanState] = []
        scene.on_state(SLOW, lambda state: errors.append(state) if isinstance(state, ScanError) else None)
        assert (await scene.verdict(SLOW)).verdict.result is Result.PASS
        assert errors == []


async def test_the_tenants_record_says_while_anchore_is_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.1)
    scene.simulator.preload(GOOD)
    async with scene.scanner():
        await scene.scanned(GOOD)
        known = await scene.record(lambda record: record.away_since is None)
        await scene.simulator.refuse_connections()
        scene.simulator.preload(BAD)
        assert await scene.ask(BAD)
        away = await scene.record(lambda record: record.away_since is not None)
        assert away.bundles == known.bundles, "what is in force is still known"
        assert away.read_at == known.read_at
        await scene.simulator.listen()
        back = await scene.record(lambda record: record.away_since is None)
        assert back.read_at > known.read_at


async def test_a_lane_that_is_lost_is_made_anew(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "DURABLE_LOOK", 0.2)
    monkeypatch.setattr(consumer, "FETCH_TIMEOUT", 0.5)
    scene.simulator.preload(GOOD)
    async with scene.scanner():
        durable = subjects.lane_durable(Lane.ADMISSION, scene.tenant)
        await scene.lane_is_there(durable)
        await scene.broker.jetstream.delete_consumer(subjects.SCANS, durable)
        assert (await scene.scanned(GOOD)).result is Result.PASS


async def test_a_scanner_may_start_before_anchore(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.1)
    scene.simulator.preload(GOOD)
    await scene.simulator.refuse_connections()
    async with scene.scanner():
        assert await scene.ask(GOOD)
        await scene.error(GOOD, ErrorClass.ANCHORE_UNAVAILABLE)
        await scene.simulator.listen()
        verdict = (await scene.verdict(GOOD)).verdict
        record = await scene.buckets.tenant(scene.tenant)
    assert record is not None
    assert verdict.bundle_hash == record.bundles[DEFAULT]


async def test_nats_that_stumbles_is_not_laid_at_anchores_door(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_state, failures = VerdictBuckets.put_state, 1

    async def stumble(
        buckets: VerdictBuckets, key: str, state: ScanState, now: datetime, over: int | None = None
    ) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise Unavailable("nats", "no acknowledgement")
        await put_state(buckets, key, state, now, over)

    states: list[ScanState] = []
    scene.on_state(SLOW, states.append)
    monkeypatch.setattr(VerdictBuckets, "put_state", stumble)
    async with scene.scanner():
        assert await scene.ask(SLOW)
        await scene.state(SLOW)
    assert isinstance(states[0], ScanPending)


# Requests and bundles.


async def put_raw(scene: Scene, subject: str, payload: bytes) -> None:
    """As soon as the message before is gone."""
    async with asyncio.timeout(WITHIN):
        while True:
            with contextlib.suppress(Conflict):
                await scene.broker.publish_raw(subject, payload, {})
                return


async def test_a_request_that_nobody_can_read_is_put_aside(scene: Scene) -> None:
    letters = await scene.broker.client.subscribe(subjects.dead_subject("scan"))
    scene.simulator.preload(GOOD)
    async with scene.scanner(SCANNER_CONCURRENCY="1"):
        for payload in (b"\xff not JSON", b'{"type":"moorgate.v1.scan-request","tenant":"t"}'):
            await put_raw(scene, scene.subject(GOOD), payload)
            letter = contracts.decode((await letters.next_msg(WITHIN)).data, contracts.DEAD_LETTER)
            assert (letter.what, letter.payload) == ("scan", payload)
            assert letter.subject == scene.subject(GOOD)
        stranger = ScanRequest(tenant="somebody", image=GOOD, bundle_id=DEFAULT, asked_at=datetime.now(UTC))
        await put_raw(scene, scene.subject(GOOD), contracts.encode(stranger))
        letter = contracts.decode((await letters.next_msg(WITHIN)).data, contracts.DEAD_LETTER)
        assert "somebody" in letter.reason
        assert (await scene.scanned(FENCE)).result is Result.PASS
    assert scene.simulator.calls("image_add", GOOD) == 0


def tenant_with(scene: Scene, active: str) -> TenantRecord | None:
    record = scene.mirror.tenant(scene.tenant)
    return record if record and record.active_bundle_id == active else None


async def test_a_bundle_switch_shows_within_a_moment(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundles.INTERVAL == 30
    monkeypatch.setattr(bundles, "INTERVAL", 0.1)
    async with scene.scanner():
        first = await scene._until(scene.tenant, lambda: tenant_with(scene, DEFAULT))
        await add_bundle(scene.simulator, bundle(rule("always", "always"), name="strict"), active=True)
        second = await scene._until(scene.tenant, lambda: tenant_with(scene, "strict"))
        edited = bundle(name="strict")
        await add_bundle(scene.simulator, edited, active=True)
        third = await scene._until(
            scene.tenant,
            lambda: (
                record
                if (record := tenant_with(scene, "strict")) and record.bundles != second.bundles
                else None
            ),
        )
    assert first.bundles.keys() == {DEFAULT}
    assert second.bundles.keys() == {DEFAULT, "strict"}
    assert first.read_at < second.read_at < third.read_at
    assert second.bundles[DEFAULT] == third.bundles[DEFAULT] == first.bundles[DEFAULT]


async def test_the_tenants_record_outlives_the_time_between_two_looks(scene: Scene) -> None:
    """However short verdicts are known: without the record no admission can name a bundle."""
    async with scene.scanner(KNOWN_TTL="1s"):
        await scene._until(scene.tenant, lambda: tenant_with(scene, DEFAULT))
        assert await scene.lifetime(subjects.TENANTS, scene.tenant) >= 2 * bundles.INTERVAL
