"""What an Anchore answers, or whatever stands in its place: bytes of any status to every call of both clients.

An answer becomes an image, an evaluation, bundles, or one of the declared errors, and what is made of an evaluation
is a verdict that fits a message. Nothing else comes out, whatever came in.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from services.scanner import bundles, evaluation
from services.scanner.anchore import Anchore, Bundle, Evaluation, Image
from services.scanner.anchore_v1 import AnchoreV1
from services.scanner.anchore_v2 import AnchoreV2
from services.scanner.calls import Calls
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.metrics import ScannerMetrics
from shared import contracts, images
from shared.anchore import AnchoreApi, AnchoreHttp, Reply
from shared.contracts import ScanRequest
from shared.errors import Unavailable
from shared.settings import Secret
from tests.fuzz.checks import check_bounded
from tests.support.anchore_client import RULES
from tests.support.builders import BUNDLE, DIGEST, TAG

STATUSES = (200, 200, 200, 200, 201, 400, 401, 404, 404, 409, 422, 500, 302)
OPERATIONS = ("add_image", "image", "check", "bundles")

_REQUEST = ScanRequest(tenant="t", image=TAG, bundle_id=BUNDLE, asked_at=datetime(2026, 11, 23, tzinfo=UTC))
_loops: list[asyncio.AbstractEventLoop] = []


def close() -> None:
    """What runs the clients' coroutines."""
    while _loops:
        _loops.pop().close()


def _loop() -> asyncio.AbstractEventLoop:
    """One for all inputs."""
    if not _loops:
        _loops.append(asyncio.new_event_loop())
    return _loops[0]


class _Server(AnchoreHttp):
    """Gives one answer to everything."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        hide: Secret | None = None,
    ) -> Reply:
        del method, query, body, hide
        assert path.isprintable()
        return self._reply


_metrics: list[ScannerMetrics] = []


def v1(data: bytes) -> None:
    """The Engine's client. First byte: the call; second: the status; then the body."""
    _ask(AnchoreApi.V1, data)


def v2(data: bytes) -> None:
    """Enterprise's client, likewise."""
    _ask(AnchoreApi.V2, data)


def input_of(operation: str, status: int, body: bytes) -> bytes:
    """The input that makes this call get this answer."""
    return bytes([OPERATIONS.index(operation), STATUSES.index(status)]) + body


def _ask(api: AnchoreApi, data: bytes) -> None:
    if len(data) < 2:
        return
    if not _metrics:
        _metrics.append(ScannerMetrics(CollectorRegistry()))
    server = _Server(Reply(status=STATUSES[data[1] % len(STATUSES)], body=data[2:]))
    calls = Calls(server, _metrics[0])
    client: Anchore = AnchoreV1(calls) if api is AnchoreApi.V1 else AnchoreV2(calls)
    try:
        _use(_loop().run_until_complete(_call(client, OPERATIONS[data[0] % len(OPERATIONS)])))
    except (ScanFailed, TryAgain, NotAnalyzed, Unavailable) as error:
        check_bounded(str(error))


async def _call(client: Anchore, operation: str) -> Image | Evaluation | list[Bundle] | None:
    reference = images.parse(TAG)
    match operation:
        case "add_image":
            return await client.add_image(reference)
        case "image":
            return await client.image(DIGEST)
        case "check":
            return await client.check(DIGEST, reference, BUNDLE)
        case _:
            return await client.bundles()


def _use(answer: Image | Evaluation | list[Bundle] | None) -> None:
    """As the worker and the bundles' watch do."""
    if isinstance(answer, Evaluation):
        image = Image(digest=DIGEST, list_digest=DIGEST, analysis_status="analyzed")
        verdict = evaluation.verdict(
            _REQUEST,
            image,
            answer,
            bundle_hash=bundles.hash_of(answer.content or {}),
            is_mutable=True,
            previous=None,
            rules=RULES,
            now=datetime.now(UTC),
        )
        contracts.encode(verdict)
    elif isinstance(answer, list):
        for each in answer:
            bundles.content_hash(each)
