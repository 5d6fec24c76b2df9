"""The HTTPS door: POST /imagecheck, or /imagecheck/<secret>. Reads, decodes, lets the gate judge, replies.

A body that is no AdmissionReview gets 400, 413 or 415 and one line that says why: the API server then
counts the call as failed, which falls the way the webhook's failurePolicy says. Whoever may post here can
make records, hence the client CA or the secret in the path.
"""

import asyncio
import functools
import hmac
import re
from collections.abc import Iterator
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from services.gateway.admission import AdmissionRequest, BadReview, decode_review, encode_answer
from services.gateway.deadlines import deadline
from services.gateway.farewell import see_off
from services.gateway.gate import Answer, Gate
from services.gateway.metrics import GatewayMetrics, Refusal
from services.gateway.reply import Reply, is_usable
from services.gateway.verdict_lookup import Source
from shared import logs
from shared.broker import new_trace
from shared.contracts import Action
from shared.settings import Secret

PATH = "/imagecheck"

MAX_BODY = 7 * 1024 * 1024
"""Bytes: an object has at most 1.5 MiB in etcd (3 MiB in a request), and a review may hold two of them."""

BODY_TIMEOUT = 10.0
"""Seconds a body may take to arrive: the API server's own are there with the headers."""

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_UID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_JSON = {"Content-Type": "application/json"}
_RESOURCES = frozenset(
    {"Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"}
)
_OPERATIONS = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})
_REFUSALS = {403: Refusal.POLICY, 429: Refusal.PENDING, 503: Refusal.ERROR}


class Webhook:
    """The handler of the one path there is."""

    def __init__(
        self, gate: Gate, metrics: GatewayMetrics, *, max_wait: float, margin: float, secret: Secret | None
    ) -> None:
        """`max_wait`, `margin`: seconds. `secret`: the last part of the path, None where there is none."""
        self._gate = gate
        self._metrics = metrics
        self._max_wait = max_wait
        self._margin = margin
        self._secret = secret
        self._log = logs.logger("webhook")
        self._is_leaving = False
        self._server: web.Server | None = None
        self._at_work: set[RequestHandler] = set()
        """The connections whose request is being answered."""
        self._answered = functools.cache(metrics.requests.labels)
        """The counter of an operation, resource and action: enumerated, so few."""
        self._durations = {source: metrics.duration.labels(source.value) for source in Source}

    async def leave(self, seconds: float) -> None:
        """From now on each answer ends its connection; those that no request comes on are closed meanwhile."""
        self._is_leaving = True
        await see_off(self._idle, seconds)

    def _idle(self) -> Iterator[asyncio.Transport]:
        for connection in self._server.connections if self._server else ():
            transport = connection.transport  # uvloop's are no asyncio.Transport by descent
            if connection not in self._at_work and transport is not None and not transport.is_closing():
                yield transport

    def server(self, **options: Any) -> web.Server:
        """An aiohttp server without its routing, which would cost an admission as much as its rules do.

        `options`: of its connections.
        """
        self._server = web.Server(self.answer, request_factory=base_request, access_log=None, **options)
        return self._server

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One answer for one request."""
        connection = request.protocol
        self._at_work.add(connection)
        try:
            return await self._answer(request)
        finally:
            self._at_work.discard(connection)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The one path there is. Who asks for another is no API server of ours: connections are kept for those."""
        parent, _, last = request.path.rpartition("/")
        is_ours = parent == PATH and bool(last) if self._secret else request.path == PATH
        if not is_ours:
            return _hung_up(web.Response(status=404, text="404: Not Found"))
        if request.method != "POST":
            allowed = {"Allow": "POST"}
            return _hung_up(web.Response(status=405, text="405: Method Not Allowed", headers=allowed))
        return await self.imagecheck(request, last)

    async def imagecheck(self, request: web.BaseRequest, secret: str) -> Reply | web.Response:
        """One AdmissionReview in, one out. `secret`: the last part of the path, as it was asked for."""
        started = asyncio.get_running_loop().time()
        if self._secret and not _is_same(secret, self._secret):
            return self._refuse(404, "not found")
        if problem := _wrong_type(request):
            return self._refuse(415, problem)
        limit = deadline(started, request.query.get("timeout"), max_wait=self._max_wait, margin=self._margin)
        try:
            review, version = decode_review(await _body(request))
            _check(review)
            logs.bind_task(uid=review.uid, namespace=review.namespace)
            answer = await self._gate.review(review, limit, started, _trace(request))
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(413, f"an AdmissionReview has at most {MAX_BODY} bytes")
        except _SlowBodyError:
            return self._refuse(408, f"the body did not arrive within {BODY_TIMEOUT:.0f} s")
        except BadReview as error:
            return self._refuse(400, str(error))
        except Exception:  # aiohttp answers 500 and logs it; here it is counted
            self._metrics.bad_requests.labels("500").inc()
            raise
        self._count(review, answer)
        self._durations[answer.source].observe(asyncio.get_running_loop().time() - started)
        return self._reply(request, encode_answer(answer.response, version))

    def _reply(self, request: web.BaseRequest, body: bytes) -> Reply | web.Response:
        if is_usable(request) and not self._is_leaving:
            return Reply(body)
        response = web.Response(body=body, headers=_JSON)
        if self._is_leaving:
            response.force_close()
        return response

    def _refuse(self, status: int, reason: str) -> web.Response:
        line = " ".join(reason.split())[:500]
        self._metrics.bad_requests.labels(str(status)).inc()
        self._log.warning("bad_request", status=status, reason=line)
        return _hung_up(web.Response(status=status, text=line + "\n"))

    def _count(self, review: AdmissionRequest, answer: Answer) -> None:
        """Label values are enumerated: what a caller invents counts as `other`."""
        kind, operation = review.kind.kind, review.operation
        self._answered(
            operation if operation in _OPERATIONS else "other",
            kind if kind in _RESOURCES else "other",
            answer.action.value,
        ).inc()
        if answer.action is Action.REJECTED and answer.response.status:
            reason = Refusal.UNRECORDED if answer.is_unrecorded else _REFUSALS[answer.response.status.code]
            self._metrics.refusals.labels(reason.value).inc()


def base_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    """As aiohttp makes one, with our bound for the body."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


def _hung_up(response: web.Response) -> web.Response:
    response.force_close()
    return response


def _wrong_type(request: web.BaseRequest) -> str | None:
    """Why the body is not even read; the API server sends JSON, and sends it as it is."""
    written = request.headers.get(
        "Content-Type"
    )  # nearly always just this; what else there may be is looked at closely
    if written != "application/json" and request.content_type != "application/json":
        return f"send application/json, not {request.content_type}"
    if "Content-Encoding" in request.headers:
        return "send the body as it is, without Content-Encoding"
    return None


class _SlowBodyError(Exception):
    """The body did not arrive in time."""


async def _body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises `_SlowBodyError`, `BadReview`, aiohttp's `HTTPRequestEntityTooLarge`."""
    try:
        if request.content.is_eof():  # it came with the headers: nothing to wait for
            return await request.read()
        async with asyncio.timeout(BODY_TIMEOUT):
            return await request.read()
    except TimeoutError as error:
        raise _SlowBodyError from error
    except (web.RequestPayloadError, ConnectionError) as error:
        raise BadReview(f"the body cannot be read: {type(error).__name__}") from error


def _check(review: AdmissionRequest) -> None:
    """The namespace becomes part of a subject, the uid a header: nothing may stand there that means more."""
    if not _UID.fullmatch(review.uid):
        raise BadReview("request.uid is no uid")
    if review.namespace and not _NAMESPACE.fullmatch(review.namespace):
        raise BadReview("request.namespace is no name of a namespace")
    if not review.namespace and review.kind.kind in _RESOURCES:
        raise BadReview(f"a {review.kind.kind} without request.namespace")


def _trace(request: web.BaseRequest) -> str:
    given = request.headers.get("traceparent", "")
    return given if _TRACE.fullmatch(given) else new_trace()


def _is_same(given: str, secret: Secret) -> bool:
    return hmac.compare_digest(given.encode(), secret.reveal().encode())
