"""Faults that tests put in: an operation answers wrongly, late or not at all, for so many calls.

A fault either replaces the operation (the real work isn't done) or, with `after`, spoils its answer only: the image was added,
but the caller never learns of it. `wrong_digest` always does the work: its answer is the true one, turned to good news
about another image.
"""

import asyncio
import hashlib
import re
from typing import Literal

import msgspec
from aiohttp import web

from deploy.dev.anchore.errors import JSON, Refusal, no_evaluation, refused, unauthorized

FaultKind = Literal[
    "error",
    "hang",
    "reset",
    "unauthorized",
    "not_found",
    "no_evaluation",
    "too_many",
    "truncated",
    "wrong_json",
    "wrong_shape",
    "html",
    "huge",
    "wrong_digest",
]

HUGE = 10 * 1024 * 1024
"""Ten megabytes of valid JSON."""


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault; consumed call by call."""

    operation: str
    """An operation's name, or * for all."""
    kind: FaultKind
    times: int = 1
    """How many calls it spoils; -1: until it is cleared."""
    status: int = 500
    """For `error`."""
    message: str = "simulated fault"
    """For `error` and `not_found`."""
    seconds: float = 3600.0
    """For `hang`: how long until the connection is dropped."""
    retry_after: int = 1
    """For `too_many`."""
    image: str | None = None
    """Only calls for this tag or digest."""
    after: bool = False
    """Do the work, then spoil the answer."""

    @property
    def needs_answer(self) -> bool:
        """Whether the work is done first."""
        return self.after or self.kind == "wrong_digest"


class Faults:
    """The faults in force, oldest first."""

    def __init__(self) -> None:
        self.pending: list[Fault] = []

    def take(self, operation: str, images: tuple[str, ...]) -> Fault | None:
        """The fault for this call, counted down."""
        for fault in self.pending:
            if fault.operation in {operation, "*"} and fault.image in {None, *images}:
                fault.times -= 1
                if fault.times == 0:
                    self.pending.remove(fault)
                return fault
        return None


async def spoil(
    fault: Fault, request: web.Request, answer: web.StreamResponse | None = None
) -> web.StreamResponse:
    """The spoilt answer; raises a Refusal for those that have an honest shape. `answer`: the true one, if the work is done."""
    if fault.kind == "wrong_digest" and isinstance(answer, web.Response) and isinstance(answer.body, bytes):
        return web.Response(status=answer.status, body=praise_of_another(answer.body), content_type=JSON)
    refusal = _refusal(fault)
    if refusal is not None:
        raise refusal
    if fault.kind == "hang":
        await asyncio.sleep(fault.seconds)
    if fault.kind == "truncated":
        return await _truncate(request)
    if fault.kind in _NONSENSE:
        kind, body = _NONSENSE[fault.kind]
        return web.Response(body=body, content_type=kind)
    drop(request)
    return web.Response()


_NONSENSE = {
    "wrong_json": (JSON, b'[{"analysis_status": "analy'),
    "wrong_shape": (JSON, b'[{"no": "such", "answer": 1}]'),
    "html": ("text/html", b"<html><body>It works!</body></html>"),
    "huge": (JSON, b'["' + b"x" * HUGE + b'"]'),
}


def _refusal(fault: Fault) -> Refusal | None:
    match fault.kind:
        case "error":
            return refused(fault.status, fault.message)
        case "unauthorized":
            return unauthorized()
        case "not_found":
            return refused(404, fault.message)
        case "no_evaluation":
            return no_evaluation()
        case "too_many":
            refusal = refused(429, "Too Many Requests")
            refusal.headers["Retry-After"] = str(fault.retry_after)
            return refusal
        case _:
            return None


def praise_of_another(body: bytes) -> bytes:
    """The same answer about other digests, and nothing wrong with them."""
    body = _DIGEST.sub(lambda found: b"sha256:" + hashlib.sha256(found[0]).hexdigest().encode("ascii"), body)
    for bad, good in _PRAISE:
        body = body.replace(bad, good)
    return body


_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_PRAISE = ((b'"fail"', b'"pass"'), (b'"stop"', b'"go"'))


async def _truncate(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": JSON, "Content-Length": "4096"})
    await response.prepare(request)
    await response.write(b'[{"analysis_status": ')
    drop(request)
    return response


def drop(request: web.Request) -> None:
    """End the connection without a word."""
    if request.transport is not None:
        request.transport.abort()
