"""The scanner's clients against a server of one answer: what they ask of it, and what they make of it, in a word or two.

async with calls_of(always(404, b"{}")) as (calls, journal):
    assert await outcome(AnchoreV2(calls).image(digest)) == ABSENT
    assert journal[0].path == ...
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from services.scanner import evaluation
from services.scanner.anchore import Bundle, Evaluation, Image
from services.scanner.calls import Calls
from services.scanner.evaluation import Lifetimes, OnUnmapped, Rules
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.metrics import ScannerMetrics
from shared.anchore import AnchoreHttp, AnchoreSettings, open_session
from shared.contracts import ScanRequest
from shared.errors import Unavailable
from shared.settings import Secret

RULES = Rules(lifetimes=Lifetimes(passed=60, failed=60, tag=60, known=600), on_unmapped=OnUnmapped.FAIL)

ABSENT, NOT_ANALYZED, TRY_AGAIN = "absent", "NotAnalyzed", "TryAgain"
NOT_UNDERSTOOD = "ScanFailed anchore_not_understood"
UNAUTHORIZED = "ScanFailed anchore_unauthorized"
UNSUPPORTED = "ScanFailed unsupported"
BUNDLE_UNKNOWN = "ScanFailed bundle_unknown"


class Sent(msgspec.Struct):
    """What the client asked."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    port: int


@asynccontextmanager
async def calls_of(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[Calls, list[Sent]]]:
    """Calls to a server that gives this answer to everything, and the journal of what it was asked."""
    journal: list[Sent] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        text = await request.text()
        body = json.loads(text) if text else None
        headers = dict(request.headers)
        port = request.url.port or 0
        journal.append(Sent(request.method, request.path, dict(request.query), body, headers, port))
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        settings = AnchoreSettings(url=url, username="ada", password=Secret("pass:wörd"), account="team-a")
        async with open_session(settings) as session:
            yield Calls(AnchoreHttp(session, settings), ScannerMetrics(CollectorRegistry())), journal
    finally:
        await runner.cleanup()


def always(status: int, body: Any, **headers: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The same answer each time."""
    data = (
        body
        if isinstance(body, bytes)
        else body.encode()
        if isinstance(body, str)
        else json.dumps(body).encode()
    )

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=data, headers=named)

    return answer


async def outcome(call: Awaitable[Any]) -> str:
    """What came of a call, in a word or two."""
    try:
        return shown(await call)
    except ScanFailed as error:
        return f"ScanFailed {error.error.value}"
    except Unavailable:
        return Unavailable.__name__
    except (NotAnalyzed, TryAgain) as error:
        return type(error).__name__


def shown(answer: Any) -> str:
    if answer is None:
        return ABSENT
    if isinstance(answer, Image):
        tags = [tag.partition("/")[2] for tag in answer.tags]
        short = f"{answer.digest[7:15]} {answer.list_digest[7:15]}"
        return " ".join(["image", short, answer.analysis_status, *sorted(tags)])
    if isinstance(answer, Evaluation):
        return _judged(answer)
    assert all(isinstance(each, Bundle) for each in answer)
    active = next((each.bundle_id for each in answer if each.is_active), None)
    return f"bundles active={active} of {len(answer)}"


def _judged(found: Evaluation) -> str:
    """The verdict with what stopped the image; the bare result where the record asked for no detail."""
    if found.is_mapped is None:
        return found.result.value
    now = datetime.now(UTC)
    digest = "sha256:" + "0" * 64
    verdict = evaluation.verdict(
        ScanRequest(tenant="t", image="r.example/a:1", bundle_id="b", asked_at=now),
        Image(digest=digest, list_digest=digest, analysis_status="analyzed"),
        found,
        bundle_hash="",
        is_mutable=True,
        previous=None,
        rules=RULES,
        now=now,
    )
    if verdict.unmapped:
        return "unmapped"
    stops = sorted({f"{each.gate}/{each.trigger}" for each in verdict.reasons if each.action == "stop"})
    return ": ".join([verdict.result.value, *([" ".join(stops)] if stops else [])])
