"""Requests become verdicts: the real scanner between a real NATS and the Anchore simulator.

Every test has a tenant of its own, and with it lanes and keys of its own. Time is the simulator's where an analysis takes
long; delays that the scanner waits for are shortened, their real values are tested in tests/scanner.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import nats.js.errors
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from deploy.dev.anchore.catalogue import Content
from deploy.dev.anchore.faults import Fault
from deploy.dev.nats import NatsServer
from services.scanner import app, breaker, bundles, config, delays
from shared import anchore as transport
from shared import consumer, contracts, streams, subjects
from shared.broker import Broker, BrokerSettings, open_broker
from shared.buckets import Bucket
from shared.contracts import (
    ErrorClass,
    Result,
    ScanError,
    ScanPending,
    ScanRequest,
    ScanState,
    TenantRecord,
    Verdict,
)
from shared.errors import Conflict, Unavailable
from shared.lifecycle import background
from shared.metrics import CommonMetrics
from shared.subjects import Lane
from shared.tenants import TenantSource
from shared.verdict_store import VerdictBuckets, VerdictMirror
from shared.verdicts import StoredVerdict
from tests.support.anchore import Simulator, anchore, bundle, client, rule, selection

DEFAULT = "2c53a13c-1765-11e8-82ef-23527761d060"
WITHIN = 10.0
"""Seconds after which something that should have happened has not."""

GOOD = "registry.example/bulk/good:1"
FENCE = "registry.example/bulk/fence:1"
BAD = "registry.example/bad/app:1"
SLOW = "registry.example/slow/app:1"
BROKEN = "registry.example/broken/app:1"
MULTI = "registry.example/team/multi:1.0"


T = TypeVar("T")


class Scene:
    """One test: a tenant, its Anchore, a connection to NATS, and what the buckets say."""

    def __init__(self, nats: NatsServer, broker: Broker, mirror: VerdictMirror, simulator: Simulator) -> None:
        self.tenant = f"t-{secrets.token_hex(4)}"
        self.broker = broker
        self.mirror = mirror
        self.simulator = simulator
        self.buckets = VerdictBuckets(broker)
        mirror.tenants.on_change(mirror._wake)
        self._nats = nats

    @asynccontextmanager
    async def scanner(
        self, *, password: str = "foobar", **settings: str
    ) -> AsyncIterator["asyncio.Task[None]"]:
        """The service while the context is open."""
        environment = {
            "MOORGATE_NATS_URL": self._nats.url,
            "MOORGATE_METRICS_LISTEN": "127.0.0.1:0",
            "MOORGATE_ANCHORE_URL": self.simulator.url,
            "MOORGATE_ANCHORE_PASSWORD": password,
            "MOORGATE_ANCHORE_API": "v1",
            **{f"MOORGATE_{name}": value for name, value in settings.items()},
        }
        loaded = config.load(environment)
        fixed = {self.tenant: loaded.tenants.fixed["default"]}
        loaded = msgspec.structs.replace(loaded, tenants=TenantSource(fixed=fixed))
        stop = asyncio.Event()
        service = asyncio.create_task(app.run(loaded, stop))
        try:
            yield service
        finally:
            stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait_for(service, WITHIN)

    def key(self, image: str, bundle_id: str = DEFAULT) -> str:
        return subjects.verdict_key(self.tenant, bundle_id, image)

    async def ask(
        self, image: str, lane: Lane = Lane.ADMISSION, *, bundle_id: str = DEFAULT, seen: int = 0
    ) -> bool:
        """Whether the request was taken: False where one waits already."""
        request = ScanRequest(
            tenant=self.tenant, image=image, bundle_id=bundle_id, seen=seen, asked_at=datetime.now(UTC)
        )
        return await self.broker.publish_unless_waiting(self.subject(image, lane, bundle_id), request)

    async def ask_again(self, image: str, lane: Lane = Lane.ADMISSION, **more: Any) -> None:
        """Ask as soon as the request before is acknowledged, which is a moment after its answer is seen."""
        async with asyncio.timeout(WITHIN):
            while not await self.ask(image, lane, **more):
                continue

    def subject(self, image: str, lane: Lane = Lane.ADMISSION, bundle_id: str = DEFAULT) -> str:
        return subjects.scan_subject(lane, self.tenant, self.key(image, bundle_id))

    async def verdict(self, image: str, after: int = 0, *, bundle_id: str = DEFAULT) -> StoredVerdict:
        """The verdict once there is one of a later revision."""
        key = self.key(image, bundle_id)

        def found() -> StoredVerdict | None:
            stored = self.mirror.verdict(key)
            return stored if stored and stored.revision > after else None

        return await self._until(key, found)

    async def record(self, fits: Callable[[TenantRecord], bool]) -> TenantRecord:
        """The tenant's record once it fits."""
        async with asyncio.timeout(WITHIN):
            while (record := await self.buckets.tenant(self.tenant)) is None or not fits(record):
                continue
        return record

    async def lane_is_there(self, durable: str) -> None:
        """Wait until the scanner has made its durable."""
        async with asyncio.timeout(WITHIN):
            while True:
                with contextlib.suppress(nats.js.errors.NotFoundError):
                    await self.broker.jetstream.consumer_info(subjects.SCANS, durable)
                    return

    async def state(self, image: str, fits: Callable[[ScanState], bool] = bool) -> ScanState:
        """The scan state once it fits."""
        key = self.key(image)

        def found() -> ScanState | None:
            state = self.mirror.state(key)
            return state if state is not None and fits(state) else None

        return await self._until(key, found)

    def on_state(self, image: str, call: Callable[[ScanState], object]) -> None:
        """Call with every state that the image ever gets."""
        key = self.key(image)

        def changed(of: str | None) -> None:
            if of == key and (state := self.mirror.state(key)) is not None:
                call(state)

        self.mirror.states.on_change(changed)

    async def error(self, image: str, expected: ErrorClass) -> ScanError:
        state = await self.state(image, lambda state: isinstance(state, ScanError))
        assert isinstance(state, ScanError)
        assert state.error is expected, state
        assert (state.tenant, state.image, state.bundle_id) == (self.tenant, image, DEFAULT)
        return state

    async def pending(self, image: str, fits: Callable[[ScanPending], bool] = lambda _: True) -> ScanPending:
        state = await self.state(image, lambda state: isinstance(state, ScanPending) and fits(state))
        assert isinstance(state, ScanPending)
        return state

    async def scanned(self, image: str, lane: Lane = Lane.ADMISSION, *, seen: int = 0, **key: str) -> Verdict:
        """Ask, and wait for the verdict."""
        await self.ask_again(image, lane, seen=seen, **key)
        return (await self.verdict(image, seen, **key)).verdict

    async def cleared(self, image: str) -> None:
        """No scan state is left."""
        key = self.key(image)
        await self._until(key, lambda: self.mirror.state(key) is None or None)

    async def lifetime(self, bucket: str, key: str) -> int:
        """Seconds after which NATS forgets the entry."""
        message = await self.broker.jetstream.get_last_msg(
            streams.bucket_stream(bucket), f"$KV.{bucket}.{key}", direct=True
        )
        return int((message.headers or {})["Nats-TTL"].removesuffix("s"))

    async def nothing_left(self) -> None:
        """Every request of the admission lane was worked on: with one worker the fence comes last."""
        self.simulator.preload(FENCE)
        await self.scanned(FENCE)

    async def _until(self, key: str, found: Callable[[], T | None]) -> T:
        with self.mirror.watching([key]) as changed:
            async with asyncio.timeout(WITHIN):
                while (answer := found()) is None:
                    await changed.wait()
                    changed.clear()
        return answer

    def calls(self) -> dict[str, int]:
        """To Anchore, without the look at the bundles that nobody's request causes."""
        counted = dict(self.simulator.counters.calls)
        counted.pop("policies_list", None)
        return counted

    def fault(self, operation: str, kind: str, **more: Any) -> None:
        self.simulator.add_fault(msgspec.convert({"operation": operation, "kind": kind, **more}, Fault))


@pytest.fixture(scope="module", autouse=True)
def made_streams(nats_server: NatsServer) -> None:
    async def make() -> None:
        settings = BrokerSettings(url=nats_server.url)
        async with open_broker(settings, "moorgate/test", CommonMetrics(CollectorRegistry())) as broker:
            await asyncio.wait_for(broker.connected(), WITHIN)
            await streams.apply(broker, 1)

    asyncio.run(make())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for seconds here."""
    monkeypatch.setattr(delays, "FIRST_LOOK", 0.1)
    monkeypatch.setattr(delays, "LONGEST_LOOK", 0.8)
    monkeypatch.setattr(consumer, "PROBE_WAIT", 0.1)


@pytest.fixture
async def scene(nats_server: NatsServer) -> AsyncIterator[Scene]:
    settings = BrokerSettings(url=nats_server.url)
    async with (
        anchore() as simulator,
        open_broker(settings, "moorgate/test", CommonMetrics(CollectorRegistry())) as broker,
    ):
        mirror = VerdictMirror(broker)
        async with background(*(each.run() for each in mirror.mirrors)):
            for each in mirror.mirrors:
                await asyncio.wait_for(each.ready.wait(), WITHIN)
            yield Scene(nats_server, broker, mirror, simulator)


def having(seen: list[Any], count: int) -> Callable[[ScanState], bool]:
    """Fits once so many have been seen."""
    return lambda _: len(seen) == count


class Held:
    """Calls of one operation that the server has and does not answer yet."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()


@contextlib.contextmanager
def hold(simulator: Simulator, operation: str, times: int = 1) -> Iterator[Held]:
    """The next calls wait until they are released."""
    held, perform, left = Held(), simulator.server._perform, times

    async def wait(found: Any, *arguments: Any) -> web.StreamResponse:
        nonlocal left
        if found.name == operation and left:
            left -= 1
            held.arrived.set()
            await held.released.wait()
        return await perform(found, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator.server, "_perform", wait)
        try:
            yield held
        finally:
            held.released.set()


@contextlib.contextmanager
def lie(simulator: Simulator, operation: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """The operation's answers, changed."""
    perform = simulator.server._perform

    async def tell(found: Any, *arguments: Any) -> web.StreamResponse:
        response = await perform(found, *arguments)
        if found.name != operation:
            return response
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return web.json_response(change(msgspec.json.decode(response.body)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator.server, "_perform", tell)
        yield


async def add_bundle(simulator: Simulator, content: dict[str, Any], *, active: bool = False) -> None:
    async with client(simulator) as api:
        async with api.post("/v1/policies", json=content) as response:
            assert response.status == 200, await response.text()
        if active:
            body = {"policyId": content["id"], "active": True, "policybundle": content}
            async with api.put(f"/v1/policies/{content['id']}", json=body) as response:
                assert response.status == 200, await response.text()


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
        assert all(gap > timedelta(seconds=0.08 * 1.5**number) for number, gap in enumerate(gaps, 1))
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

# aiohttp itself repeats a GET once when a connection that it had open before is reset.
RECOVERS = [
    ("image_add", "reset", {}),
    ("check", "reset", {"times": 2}),
    ("check", "truncated", {}),
    ("image_add", "truncated", {"after": True}),
    ("image_add", "too_many", {"retry_after": 1}),
    ("check", "error", {"status": 503}),
    ("image_add", "hang", {}),
]
"""Anchore does not answer: the request is held, and answered without another one."""


@pytest.mark.parametrize(("operation", "kind", "more"), RECOVERS)
async def test_no_answer_is_waited_out(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    kind: str,
    more: dict[str, Any],
) -> None:
    monkeypatch.setattr(transport, "CALL_TIMEOUT", 0.5)
    scene.simulator.preload(GOOD)
    scene.fault(operation, kind, **more)
    async with scene.scanner():
        assert await scene.ask(GOOD)
        await scene.error(GOOD, ErrorClass.ANCHORE_UNAVAILABLE)
        assert scene.mirror.verdict(scene.key(GOOD)) is None
        assert (await scene.verdict(GOOD)).verdict.result is Result.PASS
        await scene.cleared(GOOD)


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


@pytest.mark.parametrize(
    ("operation", "kind", "expected"),
    [
        ("image_add", "unauthorized", ErrorClass.ANCHORE_UNAUTHORIZED),
        ("check", "unauthorized", ErrorClass.ANCHORE_UNAUTHORIZED),
        ("image_add", "not_found", ErrorClass.ANCHORE_NOT_UNDERSTOOD),
        ("check", "not_found", ErrorClass.ANCHORE_NOT_UNDERSTOOD),
        ("image_add", "wrong_json", ErrorClass.ANCHORE_NOT_UNDERSTOOD),
        ("check", "wrong_json", ErrorClass.ANCHORE_NOT_UNDERSTOOD),
        ("check", "html", ErrorClass.ANCHORE_NOT_UNDERSTOOD),
        ("image_add", "huge", ErrorClass.ANCHORE_NOT_UNDERSTOOD),
        ("check", "huge", ErrorClass.ANCHORE_NOT_UNDERSTOOD),
    ],
)
async def test_a_wrong_answer_is_an_error_and_nothing_is_kept_of_it(
    scene: Scene, operation: str, kind: str, expected: ErrorClass
) -> None:
    scene.simulator.preload(GOOD)
    scene.fault(operation, kind)
    async with scene.scanner():
        assert await scene.ask(GOOD)
        await scene.error(GOOD, expected)
        assert (await scene.buckets.verdict(scene.key(GOOD)))[1] == 0
        assert (await scene.scanned(GOOD)).result is Result.PASS
        await scene.cleared(GOOD)


async def test_anchore_goes_away_and_comes_back(scene: Scene) -> None:
    image = scene.simulator.preload(GOOD)
    async with scene.scanner():
        await scene.scanned(GOOD)
        known = await scene.verdict(GOOD)
        scene.simulator.preload(BAD)
        await scene.simulator.refuse_connections()
        assert await scene.ask(BAD)
        await scene.error(BAD, ErrorClass.ANCHORE_UNAVAILABLE)
        assert not await scene.ask(BAD), "the request is held"
        assert scene.mirror.verdict(scene.key(GOOD)) == known, "what is known stays known"
        await scene.simulator.listen()
        assert (await scene.verdict(BAD)).verdict.result is Result.FAIL
        await scene.cleared(BAD)
    assert known.verdict.digest == image.digest


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
