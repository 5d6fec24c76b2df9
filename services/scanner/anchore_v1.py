"""Anchore Engine's API v1: three calls for a scan, one for the bundles. It translates and holds no rules.

What the Engine means is often only in a message (check's 404 has four meanings), so every such text
is matched here, in one table. `interactive=true` keeps a check from writing: stored evaluations collide
with one another and cause notifications.
"""

import ssl
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from services.scanner import anchore_api
from services.scanner.anchore_api import Evaluation, ImageRecord, PolicyRecord
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.metrics import ScannerMetrics
from shared.contracts import ErrorClass
from shared.errors import Unavailable
from shared.images import ImageReference
from shared.settings import Secret

CALL_TIMEOUT = 30.0
"""Seconds for one call: adding an image makes Anchore ask the registry first."""

CONNECT_TIMEOUT = 5.0
"""Seconds to get a connection."""

MAX_ANSWER = 8 * 1024 * 1024
"""Bytes: a check with thousands of findings stays below, a broken server need not."""

LONGEST_DELAY = 30.0
"""Seconds a Retry-After is heeded: all workers of the lane wait, and a server may name any number."""

_UNREACHABLE = frozenset({408, 429, 502, 503, 504})
_UNAUTHORIZED = frozenset({401, 403})
_REDIRECTED, _REFUSED, _NOT_FOUND, _SERVER_ERROR = 300, 400, 404, 500

_ERROR_CODES = {
    "REGISTRY_IMAGE_NOT_FOUND": ErrorClass.IMAGE_NOT_FOUND,
    "REGISTRY_NOT_ACCESSIBLE": ErrorClass.REGISTRY_UNAVAILABLE,
    "REGISTRY_NOT_SUPPORTED": ErrorClass.REGISTRY_UNAVAILABLE,
    "REGISTRY_PERMISSION_DENIED": ErrorClass.REGISTRY_UNAUTHORIZED,
    "OSARCH_MISMATCH": ErrorClass.UNSUPPORTED,
    "SKOPEO_UNKNOWN_ERROR": ErrorClass.REGISTRY_UNAVAILABLE,
    "UNKNOWN": ErrorClass.REGISTRY_UNAVAILABLE,
}
"""What became of the registry's side. The unknown ones are all that the Engine has no name for: time-outs, name
servers, certificates, rate limits (`SkopeoError` in `anchore_engine/clients/skopeo_wrapper.py`)."""

T = TypeVar("T")


class AnchoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tenant's Anchore is, and who we are there."""

    url: str
    """Up to and without the version: `http://anchore-api:8228`."""
    username: str
    password: Secret
    ca_file: str | None = None
    skip_verify: bool = False
    account: str | None = None
    """Act for this account (x-anchore-account); None: the user's own."""


class AnchoreV1:
    """One tenant's Engine."""

    def __init__(
        self, session: aiohttp.ClientSession, settings: AnchoreSettings, metrics: ScannerMetrics
    ) -> None:
        """`session` is made by `open_session` with the same settings."""
        self._session = session
        self._root = settings.url.rstrip("/").removesuffix("/v1") + "/v1"
        self._metrics = metrics

    async def add_image(self, reference: ImageReference) -> ImageRecord:
        """Resolve the reference afresh and ask for its analysis; the known record when there is one.

        Raises `ScanFailed`, `TryAgain`, `Unavailable`.
        """
        answer = await self._call("image_add", "POST", "/images", body=_add_request(reference))
        return _one_image(answer)

    async def image(self, digest: str) -> ImageRecord | None:
        """The record of a digest (platform's or list's), or None. Raises `ScanFailed`, `TryAgain`, `Unavailable`."""
        try:
            answer = await self._call("image_get", "GET", f"/images/{quote(digest, safe=':')}")
        except _NotFoundError:
            return None
        found = _one_image(answer)
        if digest not in {found.image_digest, found.list_digest}:
            text = f"asked for {digest}, Anchore answered with {found.image_digest}"
            raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)
        return found

    async def check(self, digest: str, reference: ImageReference, bundle_id: str) -> Evaluation:
        """Evaluate exactly this bundle, now, without a trace in the Engine's history.

        Raises `NotAnalyzed`, `ScanFailed`, `TryAgain`, `Unavailable`.
        """
        query = {
            "tag": full_tag(reference),
            "policyId": bundle_id,
            "detail": "true",
            "history": "false",
            "interactive": "true",
        }
        path = f"/images/{quote(digest, safe=':')}/check"
        try:
            answer = _decoded(await self._call("check", "GET", path, query=query), anchore_api.CHECK)
        except _NotFoundError as error:
            raise _meaning_of_404(str(error)) from error
        return _one_evaluation(answer, digest, full_tag(reference), bundle_id)

    async def bundles(self) -> list[PolicyRecord]:
        """All bundles of the account with their contents. Raises `ScanFailed`, `TryAgain`, `Unavailable`."""
        answer = await self._call("policies_list", "GET", "/policies", query={"detail": "true"})
        return _decoded(answer, anchore_api.POLICIES)

    async def _call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> bytes:
        """One request; gives the body of a 2xx answer."""
        with self._metrics.anchore_duration.labels(operation).time():
            try:
                # Redirections are not followed: they would take the password to wherever they point.
                async with self._session.request(
                    method, self._root + path, params=query, json=body, allow_redirects=False
                ) as response:
                    answer = await _bounded(response)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._metrics.anchore_requests.labels(operation, "none").inc()
                raise Unavailable("anchore", f"{operation}: {type(error).__name__} {error}") from error
        self._metrics.anchore_requests.labels(operation, str(response.status)).inc()
        _check_status(operation, response, answer)
        return answer


def open_session(settings: AnchoreSettings) -> aiohttp.ClientSession:
    """Connections to one Anchore, with its credentials and trust. Close it."""
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    headers = {
        "Accept": "application/json",
        "User-Agent": "moorgate",
        "Authorization": aiohttp.encode_basic_auth(settings.username, settings.password.reveal()),
    }
    if settings.account:
        headers["x-anchore-account"] = settings.account
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
        timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
        headers=headers,
    )


def full_tag(reference: ImageReference) -> str:
    """The tag a reference is known by in Anchore.

    One with a digest is known by a tag made of that digest, whatever tag it also names: Anchore believes
    any tag and chooses the bundle's mapping by it, and nobody has shown that the two belong together.
    """
    tag = reference.digest.replace(":", "-") if reference.digest else reference.tag
    return f"{reference.name}:{tag}"


def _add_request(reference: ImageReference) -> object:
    if reference.digest is None:
        return {"tag": full_tag(reference)}
    return {
        "source": {
            "digest": {
                "pullstring": f"{reference.name}@{reference.digest}",
                "tag": full_tag(reference),
                "creation_timestamp_override": "2000-01-01T00:00:00Z",
            }
        }
    }


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    answer = await response.content.read(MAX_ANSWER + 1)
    while not response.content.at_eof() and len(answer) <= MAX_ANSWER:
        answer += await response.content.read(MAX_ANSWER + 1 - len(answer))
    if len(answer) > MAX_ANSWER:
        response.close()
        raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, f"an answer of more than {MAX_ANSWER} bytes")
    return answer


def _check_status(operation: str, response: aiohttp.ClientResponse, answer: bytes) -> None:
    """Raise what a status of 300 or more means."""
    status = response.status
    if status < _REDIRECTED:
        return
    error = _engine_error(answer)
    message = f"{operation}: HTTP {status} {error.message}".strip()
    if status in _UNREACHABLE:
        after = response.headers.get("Retry-After", "")
        delay = min(LONGEST_DELAY, float(after)) if after.isdecimal() else 1.0
        raise Unavailable("anchore", message, delay=delay)
    if status in _UNAUTHORIZED:
        raise ScanFailed(ErrorClass.ANCHORE_UNAUTHORIZED, message)
    if status == _NOT_FOUND:
        raise _NotFoundError(error.message)
    for code in error.codes:
        if code in _ERROR_CODES:
            raise ScanFailed(_ERROR_CODES[code], error.message)
    if status >= _SERVER_ERROR:
        raise TryAgain(message)
    if operation == "image_add" and status == _REFUSED and isinstance(error.detail, anchore_api.ErrorDetail):
        raise _refused_image(error, message)
    raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, message)


class _NotFoundError(ScanFailed):
    """HTTP 404: what it means depends on the operation."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorClass.ANCHORE_NOT_UNDERSTOOD, message)


def _refused_image(error: anchore_api.EngineError, message: str) -> ScanFailed:
    """The Engine's own 400 to POST /images without a known code; its schema's refusals are about our request."""
    if "unauthorized" in error.message.lower() or "authentication" in error.message.lower():
        return ScanFailed(ErrorClass.REGISTRY_UNAUTHORIZED, message)
    return ScanFailed(ErrorClass.UNSUPPORTED, message)


def _meaning_of_404(message: str) -> NotAnalyzed | ScanFailed | TryAgain:
    """Check's 404 has four meanings, told apart by the text alone."""
    text = message.lower()
    if "analysis_failed" in text:
        return ScanFailed(ErrorClass.ANALYSIS_FAILED, message)
    if "not analyzed" in text:
        return NotAnalyzed(message)
    if "no active policy" in text or "policy bundle" in text:
        return ScanFailed(ErrorClass.BUNDLE_UNKNOWN, message)
    if "could not find any evaluations" in text:
        return TryAgain(message)
    if "image not found" in text:
        return TryAgain(f"{message} (deleted meanwhile)")
    return ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, f"check: HTTP 404 {message}")


def _engine_error(answer: bytes) -> anchore_api.EngineError:
    try:
        return anchore_api.ERROR.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return anchore_api.EngineError(message=answer[:200].decode(errors="replace"))


def _decoded(answer: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    try:
        return decoder.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, f"an answer of another shape: {error}") from error


def _one_image(answer: bytes) -> ImageRecord:
    records = _decoded(answer, anchore_api.IMAGES)
    if len(records) != 1:
        raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, f"{len(records)} image records instead of one")
    return records[0]


def _one_evaluation(answer: anchore_api.CheckAnswer, digest: str, tag: str, bundle_id: str) -> Evaluation:
    """The one evaluation that was asked for: of this digest, tag and bundle, and of no other."""
    for by_digest in answer:
        evaluations = by_digest.get(digest, {}).get(tag, [])
        for evaluation in evaluations[:1]:
            if evaluation.policy_id == bundle_id:
                return evaluation
    raise ScanFailed(
        ErrorClass.ANCHORE_NOT_UNDERSTOOD, f"the check of {digest} answers for another image, tag or bundle"
    )
