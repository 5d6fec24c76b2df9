"""The micro service that other tools ask for verdicts: `moorgate.v1.verdict.<tenant>`, found by `nats micro ls`.

All gateways are one queue group: each question meets one of them. It joins once its mirrors are complete, and leaves
before NATS closes: what was handed to it by then is answered.

Traps of nats-py 2.16 dealt with here: a subscription waits for its handler before it takes the next message, and does
not give way between two; a service that stops drops what it was handed.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

import nats.errors
from nats.micro.request import Request
from nats.micro.service import Service, ServiceConfig

from services.gateway.metrics import GatewayMetrics
from services.gateway.verdict_answers import NoAnswer, VerdictAnswers
from shared import contracts, logs, subjects
from shared.broker import Broker, new_trace
from shared.contracts import VerdictRequest
from shared.verdict_store import VerdictMirror

JOIN_AGAIN = 1.0
"""Seconds before a registration that failed is tried again."""

LEAVE_TIMEOUT = 2.0
"""Seconds for NATS to hand over what is on its way to a service that leaves."""

LAST_ANSWERS = 1.0
"""Seconds for what is waited for at the stop; then the asker is sent to another gateway."""

MAX_LINE = 300
"""Characters of an error's description."""

REFUSALS = {400: "bad_request", 404: "unknown_tenant", 429: "busy", 500: "failed", 503: "stopping"}
"""Label of the metric, by code."""

_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_SEMANTIC = re.compile(r"\d+\.\d+\.\d+")
_NATS_ERRORS = (nats.errors.Error, TimeoutError, OSError, ValueError)
"""What nats-py raises where an answer cannot be sent; `ValueError`: nobody waits for one."""


class VerdictService:
    """One gateway's part in the service."""

    def __init__(
        self, broker: Broker, mirror: VerdictMirror, answers: VerdictAnswers, metrics: GatewayMetrics
    ) -> None:
        self._broker = broker
        self._mirror = mirror
        self._answers = answers
        self._metrics = metrics
        self._under_way: set[asyncio.Task[None]] = set()
        self._log = logs.logger("verdict_service")
        self._service = _service(broker)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Answer while the context is open, from when NATS and the mirrors are there."""
        joining = asyncio.create_task(self._join())
        try:
            yield
        finally:
            while not joining.done():  # the `wait_for` of Python 3.11 can swallow a cancellation
                joining.cancel()
                await asyncio.wait({joining}, timeout=JOIN_AGAIN)
            await self._leave()

    async def _join(self) -> None:
        await asyncio.gather(*(each.ready.wait() for each in self._mirror.mirrors))
        while True:
            try:
                await self._service.start()
                await self._service.add_endpoint(
                    name="verdict", subject=subjects.QUESTION_SUBJECTS, handler=self._take
                )
            except _NATS_ERRORS as error:
                self._log.warning("not_joined", error=f"{type(error).__name__} {error}")
                await self._begin_anew()
                await asyncio.sleep(JOIN_AGAIN)
            else:
                self._log.info("joined", service=subjects.QUESTION_SERVICE)
                return

    async def _begin_anew(self) -> None:
        """One that has half joined takes itself for joined, and would never be found by all its names."""
        with suppress(*_NATS_ERRORS):
            await asyncio.wait_for(self._service.stop(), LEAVE_TIMEOUT)
        self._service = _service(self._broker)

    async def _leave(self) -> None:
        """Take no more questions, answer those there are, then say nothing more."""
        if not self._broker.is_connected:
            await self._end_waiting()
            return
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                for endpoint in self._service._endpoints:  # noqa: SLF001  its own stop drops what it was handed
                    await endpoint._subscription.drain()  # noqa: SLF001
        except _NATS_ERRORS as error:
            self._log.warning("not_drained", error=f"{type(error).__name__} {error}")
        await self._end_waiting()
        self._service._endpoints.clear()  # noqa: SLF001  they have ended
        with suppress(*_NATS_ERRORS):  # the connection closes next, and the server forgets the rest with it
            await asyncio.wait_for(self._service.stop(), LEAVE_TIMEOUT)

    async def _end_waiting(self) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=LAST_ANSWERS)
        while left := [task for task in self._under_way if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=LAST_ANSWERS)

    async def _take(self, request: Request) -> None:
        """Answer beside the others."""
        task = asyncio.create_task(self._reply(request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.sleep(0)  # let admissions have their turn

    async def _reply(self, request: Request) -> None:
        headers = request.headers or {}
        given = headers.get("traceparent", "")
        trace = given if _TRACE.fullmatch(given) else new_trace()
        try:
            _check_type(headers)
            answer = await self._answers.answer(request.subject.rpartition(".")[2], request.data, trace)
            self._metrics.questions.labels(answer.outcome.value).inc()
            await self._send(
                request.respond, contracts.encode(answer), self._headers(answer.type_name(), trace)
            )
        except NoAnswer as refusal:
            await self._refuse(request, refusal, trace)
        except asyncio.CancelledError:
            await self._refuse(request, NoAnswer(503, "this gateway is going away: ask again"), trace)
            raise
        except Exception as error:  # noqa: BLE001  its asker is told, and the others are answered
            self._log.exception("question_failed", error=str(error))
            await self._refuse(request, NoAnswer(500, "the gateway failed: its log says why"), trace)

    async def _refuse(self, request: Request, refusal: NoAnswer, trace: str) -> None:
        self._metrics.questions.labels(REFUSALS[refusal.code]).inc()
        line = ascii(" ".join(str(refusal).split()))[1:-1][:MAX_LINE]
        headers = self._headers("moorgate.v1.verdict-refusal", trace)
        await self._send(request.respond_error, str(refusal.code), line, b"", headers)

    async def _send(self, call: Any, *arguments: Any) -> None:
        try:
            await call(*arguments)
        except _NATS_ERRORS as error:
            self._log.info("answer_not_sent", error=f"{type(error).__name__} {error}")

    def _headers(self, type_name: str, trace: str) -> dict[str, str]:
        """An answer is in no stream: it has no id to be stored once by."""
        headers = self._broker.headers(type_name, new_trace()[3:35], trace)
        del headers["Nats-Msg-Id"]
        return headers


def _service(broker: Broker) -> Service:
    config = ServiceConfig(
        name=subjects.QUESTION_SERVICE,
        version=_semantic(version("moorgate")),
        description="What Anchore says of an image, known or scanned meanwhile.",
        queue_group=subjects.QUESTION_SERVICE,
    )
    return Service(broker.client, config)


def _check_type(headers: dict[str, str]) -> None:
    """Who sends CloudEvents headers says what he sends."""
    type_name = headers.get("ce-type", VerdictRequest.type_name())
    if type_name != VerdictRequest.type_name():
        raise NoAnswer(400, f"ce-type is {type_name}: send {VerdictRequest.type_name()}")


def _semantic(text: str) -> str:
    """The version as a micro service must have it: `0.1.0.dev1` has more than that."""
    found = _SEMANTIC.match(text)
    return found[0] if found else "0.0.0"
