"""The HTTPS door: POST /imagecheck, or /imagecheck/<secret>. Reads, decodes, lets the gate judge, replies.

A body that is no AdmissionReview gets 400, 413 or 415 and one line that says why: the API server then
counts the call as failed, which falls the way the webhook's failurePolicy says. Whoever may post here can
make records, hence the client CA or the secret in the path.
"""

import asyncio
import hmac
import re

from aiohttp import web
from aiohttp.typedefs import Handler

from services.gateway.admission import AdmissionRequest, BadReview, decode_review, encode_answer
from services.gateway.deadlines import deadline
from services.gateway.gate import Answer, Gate
from services.gateway.metrics import GatewayMetrics, Refusal
from shared import logs
from shared.broker import new_trace
from shared.contracts import Action
from shared.settings import Secret

MAX_BODY = 7 * 1024 * 1024
"""Bytes: an object has at most 1.5 MiB in etcd (3 MiB in a request), and a review may hold two of them."""

BODY_TIMEOUT = 10.0
"""Seconds a body may take to arrive: the API server's own are there with the headers."""

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_UID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
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

    def see_off(self) -> None:
        """From now on each answer ends its connection: the next request goes where the Service sends it."""
        self._is_leaving = True

    def application(self) -> web.Application:
        """An aiohttp application with the one route."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[_hang_up])
        path = "/imagecheck/{secret}" if self._secret else "/imagecheck"
        app.router.add_post(path, self.imagecheck)
        return app

    async def imagecheck(self, request: web.Request) -> web.Response:
        """One AdmissionReview in, one out."""
        started = asyncio.get_running_loop().time()
        if self._secret and not _is_same(request.match_info["secret"], self._secret):
            return self._refuse(404, "not found")
        if problem := _wrong_type(request):
            return self._refuse(415, problem)
        limit = deadline(started, request.query.get("timeout"), max_wait=self._max_wait, margin=self._margin)
        try:
            review, version = decode_review(await _body(request))
            _check(review)
            with logs.bind(uid=review.uid, namespace=review.namespace):
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
        self._metrics.duration.labels(answer.source.value).observe(
            asyncio.get_running_loop().time() - started
        )
        response = web.Response(body=encode_answer(answer.response, version), content_type="application/json")
        if self._is_leaving:
            response.force_close()
        return response

    def _refuse(self, status: int, reason: str) -> web.Response:
        line = " ".join(reason.split())[:500]
        self._metrics.bad_requests.labels(str(status)).inc()
        self._log.warning("bad_request", status=status, reason=line)
        response = web.Response(status=status, text=line + "\n")
        response.force_close()
        return response

    def _count(self, review: AdmissionRequest, answer: Answer) -> None:
        """Label values are enumerated: what a caller invents counts as `other`."""
        kind, operation = review.kind.kind, review.operation
        self._metrics.requests.labels(
            operation=operation if operation in _OPERATIONS else "other",
            resource=kind if kind in _RESOURCES else "other",
            action=answer.action.value,
        ).inc()
        if answer.action is Action.REJECTED and answer.response.status:
            reason = Refusal.UNRECORDED if answer.is_unrecorded else _REFUSALS[answer.response.status.code]
            self._metrics.refusals.labels(reason.value).inc()


@web.middleware
async def _hang_up(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Who asks for another path is no API server of ours: connections are kept for those."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        refusal.force_close()
        raise


def _wrong_type(request: web.Request) -> str | None:
    """Why the body is not even read; the API server sends JSON, and sends it as it is."""
    if request.content_type != "application/json":
        return f"send application/json, not {request.content_type}"
    if "Content-Encoding" in request.headers:
        return "send the body as it is, without Content-Encoding"
    return None


class _SlowBodyError(Exception):
    """The body did not arrive in time."""


async def _body(request: web.Request) -> bytes:
    """The whole body. Raises `_SlowBodyError`, `BadReview`, aiohttp's `HTTPRequestEntityTooLarge`."""
    try:
        return await asyncio.wait_for(request.read(), BODY_TIMEOUT)
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


def _trace(request: web.Request) -> str:
    given = request.headers.get("traceparent", "")
    return given if _TRACE.fullmatch(given) else new_trace()


def _is_same(given: str, secret: Secret) -> bool:
    return hmac.compare_digest(given.encode(), secret.reveal().encode())
