"""Asking and waiting on a real server, with verdicts and states written by hand as a scanner would."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from services.gateway.deadlines import Deadline
from services.gateway.findings import Finding, Question
from services.gateway.metrics import GatewayMetrics
from services.gateway.scan_rates import Rate, ScanRates
from services.gateway.verdict_lookup import Source, VerdictLookup
from shared import contracts, images, streams, subjects
from shared.broker import Broker
from shared.contracts import ErrorClass, Outcome, Result, ScanRequest, Verdict
from shared.errors import Unavailable
from shared.lifecycle import background
from shared.subjects import Lane, verdict_key
from shared.verdict_store import VerdictBuckets, VerdictMirror
from tests.support.builders import BUNDLE, DIGEST, pending, rule, scan_error, tenant_record, verdict
from tests.support.nats import Bell

LONG, SHORT = 5.0, 0.15
"""Seconds: a wait that only ends when something wakes it, and one that is to end by itself."""


GENEROUS = ScanRates(Rate(10_000, 1.0), lambda: 0.0)


class World:
    """One tenant, the gateway's lookup and the scanner's side of the buckets."""

    def __init__(self, broker: Broker) -> None:
        self.tenant = f"t-{secrets.token_hex(4)}"
        self.broker = broker
        self.mirror = VerdictMirror(broker)
        self.store = VerdictBuckets(broker)
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.lookup = VerdictLookup(self.mirror, broker, GENEROUS, self.metrics)
        self.bell = Bell()
        for each in self.mirror.mirrors:
            each.on_change(self.bell.ring)

    def question(self, image: str = "nginx:1", *, waits: bool = True, **rules: Any) -> Question:
        wanted = {"tenant": self.tenant, **rules}
        return Question(images.parse(image), rule(**wanted), waits)

    def key(self, image: str = "nginx:1") -> str:
        return verdict_key(self.tenant, BUNDLE, str(images.parse(image)))

    async def find(self, *questions: Question, within: float = LONG) -> tuple[list[Finding], Source]:
        deadline = Deadline(asyncio.get_running_loop().time() + within)
        return await self.lookup.find(list(questions or (self.question(),)), "shop", deadline, "")

    async def outcome(self, image: str = "nginx:1", within: float = LONG) -> Outcome:
        [finding], _ = await self.find(self.question(image), within=within)
        return finding.evidence.outcome

    def answer(self, image: str = "nginx:1", result: Result = Result.PASS, **changes: Any) -> Verdict:
        plain = verdict(result, since=datetime.now(UTC))
        named = {"tenant": self.tenant, "image": str(images.parse(image)), **changes}
        return msgspec.structs.replace(plain, **named)

    async def put(self, image: str = "nginx:1", result: Result = Result.PASS, **changes: Any) -> int:
        """Write a verdict, not waiting for the mirror."""
        _, over = await self.store.verdict(self.key(image))
        found = self.answer(image, result, **changes)
        return await self.store.put_verdict(self.key(image), found, datetime.now(UTC), over)

    async def known(self, image: str = "nginx:1", result: Result = Result.PASS, **changes: Any) -> int:
        """Write a verdict and wait until the mirror has it."""
        revision = await self.put(image, result, **changes)
        await self.bell.until(
            lambda: (found := self.mirror.verdict(self.key(image))) and found.revision == revision
        )
        return revision

    async def requests(self, lane: Lane = Lane.ADMISSION) -> list[ScanRequest]:
        """What waits in the lane."""
        pattern = subjects.lane_subjects(lane, self.tenant)
        info = await self.broker.jetstream.stream_info(subjects.SCANS, subjects_filter=pattern)
        found = []
        for subject in info.state.subjects or {}:
            message = await self.broker.jetstream.get_last_msg(subjects.SCANS, subject)
            found.append(contracts.decode(message.data or b"", contracts.SCAN_REQUEST))
        return found


@pytest.fixture
async def world(broker: Broker) -> AsyncIterator[World]:
    world = World(broker)
    async with background(*(each.run() for each in world.mirror.mirrors)):
        for each in world.mirror.mirrors:
            await asyncio.wait_for(each.ready.wait(), 5)
        await world.store.put_tenant(tenant_record(world.tenant), 3600)
        await world.bell.until(lambda: world.mirror.tenant(world.tenant))
        yield world


@pytest.mark.parametrize("result", Result)
async def test_a_known_image_is_answered_from_memory_and_nothing_is_asked(
    world: World, result: Result
) -> None:
    revision = await world.known(result=result)
    [finding], source = await world.find()
    assert finding.evidence.outcome == Outcome(result.value)
    assert (finding.bundle_id, finding.evidence.revision, source) == (BUNDLE, revision, Source.MEMORY)
    assert await world.requests() == []


async def test_a_known_image_needs_no_network(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.known()
    monkeypatch.setattr(Broker, "is_connected", property(lambda _: False))
    assert await world.outcome(within=0) is Outcome.PASS


async def test_an_unknown_image_is_asked_for_and_the_answer_wakes_whoever_waits(world: World) -> None:
    finding = asyncio.create_task(world.find())
    async with asyncio.timeout(5):
        while not (requests := await world.requests()):
            await world.broker.client.flush()
    [request] = requests
    assert (request.tenant, request.bundle_id, request.seen) == (world.tenant, BUNDLE, 0)
    assert (request.image, request.asked_by) == ("docker.io/library/nginx:1", "tests")
    assert request.key == world.key()
    assert not finding.done()
    began = asyncio.get_running_loop().time()
    await world.put(result=Result.FAIL)
    [found], source = await finding
    assert (found.evidence.outcome, source) == (Outcome.FAIL, Source.WAIT)
    assert asyncio.get_running_loop().time() - began < LONG / 2
    assert not world.mirror._waiting


async def test_fifty_admissions_of_one_image_ask_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    publish = world.broker.publish_unless_waiting

    async def counting(*arguments: Any) -> bool:
        nonlocal calls
        calls += 1
        return await publish(*arguments)

    monkeypatch.setattr(world.broker, "publish_unless_waiting", counting)
    finding = asyncio.gather(*(world.find(world.question(), world.question()) for _ in range(50)))
    async with asyncio.timeout(5):
        while not await world.requests():
            await world.broker.client.flush()
    await world.put()
    found = await finding
    assert {each.evidence.outcome for findings, _ in found for each in findings} == {Outcome.PASS}
    assert calls == 1, "one publish for all admissions of this process"
    assert len(await world.requests()) == 1
    assert world.metrics.scan_requests.labels("admission")._value.get() == 1
    assert not world.lookup._asking


async def test_two_gateways_ask_once(world: World, broker: Broker) -> None:
    other = VerdictLookup(world.mirror, broker, GENEROUS, GatewayMetrics(CollectorRegistry()))
    deadline = Deadline(asyncio.get_running_loop().time() + LONG)
    finding = asyncio.gather(world.find(), other.find([world.question()], "shop", deadline, ""))
    async with asyncio.timeout(5):
        while not await world.requests():
            await broker.client.flush()
    await world.put()
    assert {source for _, source in await finding} == {Source.WAIT}
    assert len(await world.requests()) == 1


async def test_the_wait_ends_at_the_deadline(world: World) -> None:
    began = asyncio.get_running_loop().time()
    [finding], source = await world.find(within=SHORT)
    took = asyncio.get_running_loop().time() - began
    assert (finding.evidence.outcome, source) == (Outcome.PENDING, Source.WAIT)
    assert SHORT <= took < LONG / 2
    assert len(await world.requests()) == 1


async def test_without_time_nothing_is_waited_for_but_asked(world: World) -> None:
    [finding], source = await world.find(within=0)
    assert (finding.evidence.outcome, source) == (Outcome.PENDING, Source.MEMORY)
    async with asyncio.timeout(5):
        while not await world.requests():
            await world.broker.client.flush()


async def test_where_nothing_can_be_refused_nothing_is_waited_for_but_asked(world: World) -> None:
    [finding], source = await asyncio.wait_for(world.find(world.question(waits=False)), LONG / 2)
    assert (finding.evidence.outcome, source) == (Outcome.PENDING, Source.MEMORY)
    async with asyncio.timeout(5):
        while not await world.requests():
            await world.broker.client.flush()


async def test_the_first_failing_image_ends_the_wait(world: World) -> None:
    await world.known("bad:1", Result.FAIL)
    findings, source = await asyncio.wait_for(world.find(world.question(), world.question("bad:1")), LONG / 2)
    assert [each.evidence.outcome for each in findings] == [Outcome.PENDING, Outcome.FAIL]
    assert source is Source.MEMORY


async def test_a_fail_that_cannot_refuse_ends_no_wait(world: World) -> None:
    await world.known("bad:1", Result.FAIL)
    lenient = world.question("bad:1", waits=False)
    finding = asyncio.create_task(world.find(lenient, world.question()))
    async with asyncio.timeout(5):
        while not await world.requests():
            await world.broker.client.flush()
    assert not finding.done()
    await world.put()
    findings, _ = await finding
    assert [each.evidence.outcome for each in findings] == [Outcome.FAIL, Outcome.PASS]


async def test_of_several_unknown_images_all_are_waited_for(world: World) -> None:
    finding = asyncio.create_task(world.find(world.question("a:1"), world.question("b:1")))
    async with asyncio.timeout(5):
        while len(await world.requests()) < 2:
            await world.broker.client.flush()
    await world.known("a:1")
    assert not finding.done()
    await world.put("b:1")
    findings, _ = await finding
    assert [each.evidence.outcome for each in findings] == [Outcome.PASS, Outcome.PASS]


async def state_is(world: World, state: contracts.ScanState) -> None:
    named = msgspec.structs.replace(state, tenant=world.tenant, image="docker.io/library/nginx:1")
    await world.store.put_state(world.key(), named, datetime.now(UTC))
    await world.bell.until(lambda: world.mirror.state(world.key()) == named)


async def test_a_scan_that_nobody_looks_at_before_the_deadline_is_not_waited_for(world: World) -> None:
    now = datetime.now(UTC)
    await state_is(world, pending(since=now, next_look=now + timedelta(seconds=60)))
    [finding], source = await asyncio.wait_for(world.find(), LONG / 2)
    assert (finding.evidence.outcome, source) == (Outcome.PENDING, Source.MEMORY)
    assert finding.evidence.pending_since == now
    assert await world.requests() == [], "it is under way already"


async def test_a_scan_that_somebody_looks_at_in_time_is_waited_for(world: World) -> None:
    now = datetime.now(UTC)
    await state_is(world, pending(since=now, next_look=now + timedelta(seconds=1)))
    finding = asyncio.create_task(world.find())
    await asyncio.sleep(0)
    await world.put()
    [found], source = await finding
    assert (found.evidence.outcome, source) == (Outcome.PASS, Source.WAIT)
    assert await world.requests() == []


async def test_an_error_state_ends_the_wait_and_nobody_asks(world: World) -> None:
    finding = asyncio.create_task(world.find())
    async with asyncio.timeout(5):
        while not await world.requests():
            await world.broker.client.flush()
    await world.broker.jetstream.purge_stream(subjects.SCANS)
    await state_is(world, scan_error(ErrorClass.REGISTRY_UNAUTHORIZED, since=datetime.now(UTC)))
    [found], _ = await finding
    assert (found.evidence.outcome, found.evidence.error) == (Outcome.ERROR, ErrorClass.REGISTRY_UNAUTHORIZED)
    assert await world.outcome() is Outcome.ERROR
    assert await world.requests() == []


async def test_a_stale_pass_of_a_tag_waits_for_its_refresh_and_one_of_a_digest_does_not(world: World) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    await world.known(evaluated_at=past - timedelta(hours=1), fresh_until=past)
    pinned = f"nginx@{DIGEST}"
    await world.known(pinned, evaluated_at=past - timedelta(hours=1), fresh_until=past)
    assert await asyncio.wait_for(world.outcome(pinned), LONG / 2) is Outcome.PASS
    assert await world.outcome(within=SHORT) is Outcome.PENDING
    seen = {request.image: request.seen for request in await world.requests()}
    assert set(seen) == {"docker.io/library/nginx:1", f"docker.io/library/{pinned}"}
    assert all(seen.values()), "the scanner is told which verdict we have"
    finding = asyncio.create_task(world.find())
    await asyncio.sleep(0)
    await world.put(result=Result.FAIL)
    [found], source = await finding
    assert (found.evidence.outcome, source) == (Outcome.FAIL, Source.WAIT)


async def test_an_answer_with_no_life_of_its_own_answers_whoever_asked(world: World) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    await world.known(fresh_until=past)
    finding = asyncio.create_task(world.find())
    async with asyncio.timeout(5):
        while not await world.requests():
            await world.broker.client.flush()
    await world.put(fresh_until=past)
    [found], _ = await finding
    assert (found.evidence.outcome, found.evidence.is_stale_pass) == (Outcome.PASS, False)
    assert await world.outcome(within=SHORT) is Outcome.PENDING, "the next one asks again"


async def test_an_ageing_verdict_is_used_and_refreshed_in_the_background(world: World) -> None:
    now = datetime.now(UTC)
    await world.known(evaluated_at=now - timedelta(hours=2), fresh_until=now + timedelta(minutes=1))
    assert await asyncio.wait_for(world.outcome(), LONG / 2) is Outcome.PASS
    async with asyncio.timeout(5):
        while not await world.requests():
            await world.broker.client.flush()


async def test_a_gateway_that_has_never_reached_nats_says_so_of_every_image(broker: Broker) -> None:
    world = World(broker)  # whose mirrors have not begun
    [finding], source = await asyncio.wait_for(world.find(world.question()), LONG / 2)
    assert finding.evidence.error is ErrorClass.NATS_UNAVAILABLE
    assert source is Source.FALLBACK


async def test_a_tenant_nobody_reported_and_a_bundle_nobody_activated_are_errors(world: World) -> None:
    [unknown], _ = await asyncio.wait_for(world.find(world.question(tenant="nobody")), LONG / 2)
    assert unknown.evidence.error is ErrorClass.TENANT_UNKNOWN
    await world.store.put_tenant(tenant_record(world.tenant, active_bundle_id=None), 3600)
    await world.bell.until(
        lambda: (found := world.mirror.tenant(world.tenant)) and not found.active_bundle_id
    )
    [inactive], _ = await asyncio.wait_for(world.find(), LONG / 2)
    assert (inactive.evidence.error, inactive.bundle_id) == (ErrorClass.BUNDLE_UNKNOWN, "")
    [named], _ = await world.find(world.question(bundle_id="strict"), within=0)
    assert (named.evidence.outcome, named.bundle_id) == (Outcome.PENDING, "strict")


async def test_another_content_of_the_bundle_makes_a_tags_pass_stale(world: World) -> None:
    await world.known(bundle_hash="other")
    assert await world.outcome(within=SHORT) is Outcome.PENDING


async def test_with_nats_away_the_unknown_is_an_error_at_once_and_a_stale_pass_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.known("stale:1", fresh_until=datetime.now(UTC) - timedelta(seconds=1))
    await world.known("bad:1", Result.FAIL, fresh_until=datetime.now(UTC) - timedelta(seconds=1))
    monkeypatch.setattr(Broker, "is_connected", property(lambda _: False))
    [unknown], source = await asyncio.wait_for(world.find(), LONG / 2)
    assert (unknown.evidence.error, source) == (ErrorClass.NATS_UNAVAILABLE, Source.FALLBACK)
    [stale], source = await asyncio.wait_for(world.find(world.question("stale:1")), LONG / 2)
    assert (stale.evidence.outcome, stale.evidence.is_stale_pass) == (Outcome.PASS, True)
    assert source is Source.FALLBACK
    assert await world.outcome("bad:1") is Outcome.FAIL


async def test_a_question_that_cannot_be_put_ends_the_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> bool:
        raise Unavailable("nats", "no space left")

    monkeypatch.setattr(world.broker, "publish_unless_waiting", refuse)
    [finding], source = await asyncio.wait_for(world.find(), LONG / 2)
    assert (finding.evidence.error, source) == (ErrorClass.NATS_UNAVAILABLE, Source.FALLBACK)
    assert not world.lookup._asking


async def test_a_question_that_nobody_has_taken_by_the_deadline_counts_as_nats_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: Any) -> bool:
        return await asyncio.Event().wait()

    monkeypatch.setattr(world.broker, "publish_unless_waiting", hang)
    [finding], _ = await world.find(within=SHORT)
    assert finding.evidence.error is ErrorClass.NATS_UNAVAILABLE
    for task in list(world.lookup._asking.values()):
        task.cancel()


async def test_findings_come_in_the_order_of_the_questions(world: World) -> None:
    await world.known("a:1")
    await world.known("b:1", Result.FAIL)
    asked = [
        world.question("b:1"),
        world.question(tenant="nobody"),
        world.question("a:1"),
        world.question("b:1"),
    ]
    findings, _ = await world.find(*asked)
    outcomes = [each.evidence.outcome for each in findings]
    assert outcomes == [Outcome.FAIL, Outcome.ERROR, Outcome.PASS, Outcome.FAIL]
    assert await world.find(within=0) is not None
    assert (await world.lookup.find([], "shop", Deadline(0), "")) == ([], Source.MEMORY)


async def test_a_killed_server_leaves_what_is_known_and_comes_back(
    world: World, nats_server: NatsServer
) -> None:
    await world.known(result=Result.FAIL)
    nats_server.process.kill()
    assert await world.outcome(within=SHORT) is Outcome.FAIL
    await nats_server.process.start()
    await asyncio.wait_for(streams.wait_for_streams(world.broker, subjects.SCANS), 10)
    async with asyncio.timeout(10):
        while not world.broker.is_connected:
            await world.broker.client.flush()
    await world.put("later:1")
    assert await world.outcome("later:1") is Outcome.PASS
