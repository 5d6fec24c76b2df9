"""Asking the gateways' micro service on a real server, with verdicts written by hand as a scanner would."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg
from prometheus_client import CollectorRegistry

from deploy.dev.asyncapi import HEADERS
from deploy.dev.nats import NatsServer
from services.gateway import verdict_answers
from services.gateway.metrics import GatewayMetrics
from services.gateway.scan_rates import Rate, ScanRates
from services.gateway.verdict_answers import VerdictAnswers
from services.gateway.verdict_lookup import VerdictLookup
from services.gateway.verdict_service import VerdictService
from shared import contracts, images, streams, subjects
from shared.broker import Broker
from shared.contracts import ErrorClass, Outcome, Result, VerdictAnswer
from shared.lifecycle import background
from shared.subjects import question_subject, verdict_key
from shared.verdict_store import VerdictBuckets, VerdictMirror
from tests.support.builders import BUNDLE, DIGEST, pending, scan_error, tenant_record, verdict
from tests.support.nats import broker_on
from tests.support.road import until

WITHIN = 20.0
"""Seconds after which what should have happened has not."""

GENEROUS = Rate(10_000, 1.0)

TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"


class Gateway:
    """One gateway's part: mirror, lookup and service on a connection of its own."""

    def __init__(self, broker: Broker, rate: Rate, scans: Rate) -> None:
        self.broker = broker
        self.metrics = GatewayMetrics(CollectorRegistry())
        self.mirror = VerdictMirror(broker)
        lookup = VerdictLookup(self.mirror, broker, ScanRates(scans, lambda: 0.0), self.metrics)
        self.service = VerdictService(broker, self.mirror, VerdictAnswers(lookup, rate), self.metrics)

    def count(self, outcome: str) -> float:
        return float(self.metrics.questions.labels(outcome)._value.get())


class World:
    """A tenant, who asks, and the scanner's side of the buckets."""

    def __init__(self, server: NatsServer, broker: Broker) -> None:
        self.server = server
        self.broker = broker
        self.tenant = f"t-{secrets.token_hex(4)}"
        self.store = VerdictBuckets(broker)

    @asynccontextmanager
    async def gateway(self, rate: Rate = GENEROUS, scans: Rate = GENEROUS) -> AsyncIterator[Gateway]:
        """A gateway that has joined, while the context is open."""
        async with AsyncExitStack() as stack:
            gateway = Gateway(await stack.enter_async_context(broker_on(self.server)), rate, scans)
            await stack.enter_async_context(background(*(each.run() for each in gateway.mirror.mirrors)))
            await stack.enter_async_context(gateway.service.serve())
            await until(self._has_joined(gateway), "joined", WITHIN)
            yield gateway

    def _has_joined(self, gateway: Gateway) -> Callable[[], Awaitable[object]]:
        async def look() -> object:
            return gateway.service._service._endpoints and gateway.mirror.tenant(self.tenant)

        return look

    async def put(self, image: str, result: Result = Result.PASS, **changes: Any) -> None:
        reference = str(images.parse(image))
        key = verdict_key(self.tenant, BUNDLE, reference)
        named = {"tenant": self.tenant, "image": reference, **changes}
        found = msgspec.structs.replace(verdict(result, since=datetime.now(UTC)), **named)
        _, over = await self.store.verdict(key)
        await self.store.put_verdict(key, found, datetime.now(UTC), over)

    async def ask(
        self,
        question: Any,
        *,
        tenant: str = "",
        within: float = WITHIN,
        headers: dict[str, str] | None = None,
    ) -> Msg:
        payload = question if isinstance(question, bytes) else json.dumps(question).encode()
        subject = question_subject(tenant or self.tenant)
        return await self.broker.client.request(subject, payload, timeout=within, headers=headers)

    async def answer(self, image: str, **more: Any) -> VerdictAnswer:
        return answer_in(await self.ask({"image": image, **more}))

    async def known(self, image: str, result: Result = Result.PASS) -> VerdictAnswer:
        """The answer about an image whose verdict is on its way to the mirror."""
        await self.put(image, result)

        async def look() -> VerdictAnswer | None:
            found = await self.answer(image, timeoutSeconds=0)
            return found if found.verdict else None

        answer: VerdictAnswer = await until(look, f"a verdict of {image}", WITHIN)
        return answer

    async def requests(self) -> int:
        """How many scans wait."""
        pattern = subjects.lane_subjects(subjects.Lane.ADMISSION, self.tenant)
        info = await self.broker.jetstream.stream_info(subjects.SCANS, subjects_filter=pattern)
        return len(info.state.subjects or {})


def answer_in(reply: Msg) -> VerdictAnswer:
    assert refusal(reply) == ("", ""), reply.headers
    return contracts.decode(reply.data, contracts.VERDICT_ANSWER)


def refusal(reply: Msg) -> tuple[str, str]:
    headers = reply.headers or {}
    return headers.get("Nats-Service-Error-Code", ""), headers.get("Nats-Service-Error", "")


@pytest.fixture
async def world(nats_server: NatsServer) -> AsyncIterator[World]:
    async with broker_on(nats_server) as broker:
        await streams.apply(broker, 1)
        world = World(nats_server, broker)
        await world.store.put_tenant(tenant_record(world.tenant), 3600)
        yield world


@pytest.mark.parametrize(("result", "outcome"), [(Result.PASS, Outcome.PASS), (Result.FAIL, Outcome.FAIL)])
async def test_a_known_image_is_answered_with_its_verdict(
    world: World, result: Result, outcome: Outcome
) -> None:
    async with world.gateway() as gateway:
        answer = await world.known("nginx:1", result)
        assert answer.outcome is outcome
        assert (answer.tenant, answer.image) == (world.tenant, "docker.io/library/nginx:1")
        assert (answer.bundle_id, answer.digest) == (BUNDLE, DIGEST)
        assert answer.verdict is not None
        assert answer.verdict.result is result
        assert gateway.count(outcome.value) >= 1


async def test_the_answer_carries_cloudevents_headers_and_goes_on_with_the_trace(world: World) -> None:
    async with world.gateway():
        given = {"ce-type": "moorgate.v1.verdict-request", "traceparent": TRACE}
        reply = await world.ask({"image": "nginx", "timeoutSeconds": 0}, headers=given)
        headers = reply.headers or {}
        assert headers["ce-type"] == "moorgate.v1.verdict-answer"
        assert headers["ce-specversion"] == "1.0"
        assert headers["ce-source"] == "tests"
        assert headers["ce-id"]
        jsonschema.validate(headers, HEADERS)
        assert datetime.fromisoformat(headers["ce-time"]).tzinfo
        assert headers["traceparent"] == TRACE
        assert "Nats-Msg-Id" not in headers


async def test_the_scan_that_is_asked_for_goes_on_with_the_trace(world: World) -> None:
    async with world.gateway():
        await world.ask({"image": "traced:1", "timeoutSeconds": 0}, headers={"traceparent": TRACE})
        await until(world.requests, "a scan asked for", WITHIN)
        key = verdict_key(world.tenant, BUNDLE, "docker.io/library/traced:1")
        subject = subjects.scan_subject(subjects.Lane.ADMISSION, world.tenant, key)
        request = await world.broker.jetstream.get_last_msg(subjects.SCANS, subject)
        headers = request.headers or {}
        assert headers["ce-type"] == "moorgate.v1.scan-request"
        assert headers["traceparent"] == TRACE
        jsonschema.validate(headers, HEADERS)


async def test_an_unknown_image_is_scanned_once_and_its_verdict_waited_for(world: World) -> None:
    async with world.gateway(), world.gateway():
        asking = [asyncio.create_task(world.answer("new:1", timeoutSeconds=15)) for _ in range(8)]
        await until(world.requests, "a scan asked for", WITHIN)
        assert await world.requests() == 1
        await world.put("new:1", Result.FAIL)
        answers = await asyncio.gather(*asking)
        assert {answer.outcome for answer in answers} == {Outcome.FAIL}


async def test_a_scan_that_takes_longer_is_pending_when_the_asker_goes(world: World) -> None:
    async with world.gateway() as gateway:
        answer = await world.answer("slow:1", timeoutSeconds=0.2)
        assert (answer.outcome, answer.verdict) == (Outcome.PENDING, None)
        assert await world.requests() == 1
        since = datetime.now(UTC)
        state = pending(since=since, next_look=since + timedelta(hours=1), digest=DIGEST)
        await world.store.put_state(
            verdict_key(world.tenant, BUNDLE, "docker.io/library/slow:1"), state, since
        )

        async def tells_more() -> VerdictAnswer | None:
            found = await world.answer("slow:1", timeoutSeconds=0)
            return found if found.next_look else None

        later = await until(tells_more, "the scan state", WITHIN)
        assert (later.outcome, later.digest) == (Outcome.PENDING, DIGEST)
        assert later.pending_since == since
        assert gateway.count("pending") >= 2


async def test_an_error_is_told_with_its_class(world: World) -> None:
    async with world.gateway():
        now = datetime.now(UTC)
        state = scan_error(ErrorClass.IMAGE_NOT_FOUND, until=now + timedelta(hours=1))
        await world.store.put_state(verdict_key(world.tenant, BUNDLE, "docker.io/library/gone:1"), state, now)
        answer = await world.answer("gone:1", timeoutSeconds=10)
        assert (answer.outcome, answer.error) == (Outcome.ERROR, ErrorClass.IMAGE_NOT_FOUND)


async def test_another_bundle_is_another_question(world: World) -> None:
    async with world.gateway():
        await world.known("nginx:2")
        answer = await world.answer("nginx:2", bundleId="other", timeoutSeconds=0)
        assert (answer.outcome, answer.bundle_id) == (Outcome.PENDING, "other")


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (b"", "undecodable"),
        (b"\xff", "undecodable"),
        (b"[]", "undecodable"),
        ({}, "image"),
        ({"image": ""}, "image"),
        ({"image": 7}, "image"),
        ({"image": "UPPER CASE\r\nx: y"}, "no image reference"),
        ({"image": "nginx", "timeoutSeconds": -1}, "timeoutSeconds"),
        ({"image": "nginx", "timeoutSeconds": "1e9"}, "timeoutSeconds"),
        ({"image": "nginx", "bundleId": "b" * 257}, "bundleId"),
        ({"image": "nginx", "type": "moorgate.v2.verdict-request"}, "undecodable"),
        ({"image": "n" * 5000}, "4096 bytes"),
    ],
    ids=str,
)
async def test_a_bad_question_is_refused_in_one_line(world: World, question: Any, words: str) -> None:
    async with world.gateway() as gateway:
        code, line = refusal(await world.ask(question))
        assert code == "400"
        assert words in line
        assert len(line) <= 300
        assert gateway.count("bad_request") == 1
        assert await world.requests() == 0


async def test_a_cloudevent_of_another_type_is_refused(world: World) -> None:
    async with world.gateway():
        reply = await world.ask({"image": "nginx"}, headers={"ce-type": "com.example.order"})
        assert refusal(reply)[0] == "400"
        assert "moorgate.v1.verdict-request" in refusal(reply)[1]


@pytest.mark.parametrize(("tenant", "code"), [("nobody", "404"), ("Team_A", "400"), ("x" * 41, "400")])
async def test_a_tenant_that_nobody_serves_is_refused(world: World, tenant: str, code: str) -> None:
    async with world.gateway():
        assert refusal(await world.ask({"image": "nginx"}, tenant=tenant))[0] == code


async def test_more_questions_than_may_wait_are_refused_at_once(world: World) -> None:
    most = verdict_answers.MAX_OF_A_TENANT
    async with world.gateway() as gateway:
        waiting = [
            asyncio.create_task(world.ask({"image": f"w{n}:1", "timeoutSeconds": 25})) for n in range(most)
        ]

        async def all_wait() -> bool:
            return gateway.service._answers._under_way.total() == most

        await until(all_wait, "all wait", WITHIN)
        assert refusal(await world.ask({"image": "nginx"}))[0] == "429"
        assert gateway.count("busy") == 1
        assert refusal(await world.ask({"image": "nginx"}, tenant="nobody"))[0] == "404", (
            "others are answered"
        )
        for task in waiting:
            task.cancel()


async def test_a_flood_is_refused_beyond_its_rate(world: World) -> None:
    async with world.gateway(rate=Rate(5, 3600.0)):
        replies = [await world.ask({"image": "nginx", "timeoutSeconds": 0}) for _ in range(8)]
        assert [refusal(reply)[0] for reply in replies].count("429") == 3


async def test_made_up_images_take_the_askers_share_of_scans_alone(world: World) -> None:
    async with world.gateway(scans=Rate(3, 3600.0)) as gateway:
        replies = [await world.ask({"image": f"made-up:{n}", "timeoutSeconds": 0}) for n in range(5)]
        codes = [refusal(reply)[0] for reply in replies]
        assert codes == ["", "", "", "429", "429"]
        assert "MOORGATE_SCAN_RATE" in refusal(replies[-1])[1]

        async def three_wait() -> bool:
            return await world.requests() == 3

        await until(three_wait, "three scans", WITHIN)
        assert gateway.service._answers._lookup._rates.take("shop"), "a namespace has its own"


async def test_it_is_found_as_every_micro_service_is(world: World) -> None:
    async with world.gateway(), world.gateway():
        inbox = world.broker.client.new_inbox()
        found: list[dict[str, Any]] = []

        async def note(message: Msg) -> None:
            found.append(json.loads(message.data))

        await world.broker.client.subscribe(inbox, cb=note)
        await world.broker.client.publish("$SRV.INFO.moorgate-verdict", reply=inbox)

        async def both() -> bool:
            return len(found) >= 2

        await until(both, "two gateways", WITHIN)
        assert {each["name"] for each in found} == {"moorgate-verdict"}
        [endpoint] = found[0]["endpoints"]
        assert endpoint["subject"] == "moorgate.v1.verdict.*"
        assert endpoint["queue_group"] == "moorgate-verdict"
        assert len({each["id"] for each in found}) == 2


async def test_it_goes_on_after_nats_was_restarted(world: World) -> None:
    async with world.gateway():
        await world.known("nginx:3")
        await world.server.restart()

        async def answers() -> bool:
            try:
                return (await world.answer("nginx:3")).outcome is Outcome.PASS
            except (nats.errors.Error, TimeoutError):
                return False

        await until(answers, "an answer after the restart", 30)


async def test_a_gateway_that_leaves_loses_no_question(world: World) -> None:
    """Asked without a pause while one of two leaves: each question has an answer, also those that wait."""
    async with world.gateway():
        await world.known("nginx:4")
        replies: list[Msg] = []
        async with AsyncExitStack() as leaving:
            await leaving.enter_async_context(world.gateway())
            waiting = [
                asyncio.create_task(world.ask({"image": "slow:2", "timeoutSeconds": 20})) for _ in range(8)
            ]
            known = [asyncio.create_task(world.ask({"image": "nginx:4"})) for _ in range(500)]
            await asyncio.sleep(0)
            await world.broker.client.flush()  # the server has handed them over, and few are answered
        replies = await asyncio.gather(*known)
        assert {answer_in(reply).outcome for reply in replies} == {Outcome.PASS}
        await world.put("slow:2")
        codes = {refusal(reply)[0] for reply in await asyncio.gather(*waiting)}
        assert codes <= {"", "503"}


async def test_a_gateway_alone_that_leaves_says_so(world: World) -> None:
    async with world.gateway() as gateway:
        asking = asyncio.create_task(world.ask({"image": "slow:3", "timeoutSeconds": 25}))
        await until(world.requests, "the question has arrived", WITHIN)
    code, line = refusal(await asking)
    assert (code, gateway.count("stopping")) == ("503", 1)
    assert "ask again" in line


async def test_a_question_that_nobody_waits_for_harms_nobody(world: World) -> None:
    async with world.gateway():
        await world.broker.client.publish(
            question_subject(world.tenant), b'{"image": "nginx", "timeoutSeconds": 0}'
        )
        assert (await world.answer("nginx", timeoutSeconds=0)).outcome is Outcome.PENDING


async def test_a_defect_is_told_and_the_next_question_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.gateway() as gateway:
        monkeypatch.setattr(verdict_answers, "_parsed", lambda _: 1 // 0)
        assert refusal(await world.ask({"image": "nginx"}))[0] == "500"
        monkeypatch.undo()
        assert (await world.answer("nginx", timeoutSeconds=0)).outcome is Outcome.PENDING
        assert gateway.count("failed") == 1
