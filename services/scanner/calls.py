"""One call of the API, counted and timed, and what its status means: the same for both APIs.

What Anchore means is often only in a message (check's 404 has four meanings), so every such text is matched
here, in one place. Adding an image tells of the registry behind it by a code.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.metrics import ScannerMetrics
from shared.anchore import AnchoreApi, AnchoreHttp, AnsweredAway, ErrorBody, Reply, TooLarge
from shared.contracts import ErrorClass
from shared.errors import Refused, Unavailable

_UNAUTHORIZED = frozenset({401, 403})
_REFUSED, _NOT_FOUND, _SERVER_ERROR = 400, 404, 500

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


class NotFound(ScanFailed):
    """HTTP 404: what it means depends on the operation."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorClass.ANCHORE_NOT_UNDERSTOOD, message)
        self.text = message


class Calls:
    """Calls to one tenant's Anchore."""

    def __init__(self, http: AnchoreHttp, metrics: ScannerMetrics) -> None:
        self.http = http
        self._metrics = metrics

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
    ) -> bytes:
        """The body of a 2xx answer. Raises `NotFound`, `ScanFailed`, `TryAgain`, `Unavailable`."""
        code = "none"
        try:
            with self._metrics.anchore_duration.labels(operation).time():
                reply = await self.http.request(method, path, query=query, body=body)
            code = str(reply.status)
        except AnsweredAway as error:
            code = str(error.status)
            raise
        except TooLarge as error:
            code = str(error.status)
            raise not_understood(str(error)) from error
        finally:
            self._metrics.anchore_requests.labels(operation, code).inc()
        if not reply.is_ok:
            raise _meaning(operation, reply)
        return reply.body

    async def detect(self) -> AnchoreApi:
        """Which API the server speaks. Raises `ScanFailed`, `TryAgain`, `Unavailable`."""
        code = "none"
        try:
            api = await self.http.detect()
            code = "200"
        except Refused as error:
            code = str(error.status)
            raise _meaning("version", Reply(status=error.status, body=str(error).encode())) from error
        except TooLarge as error:
            code = str(error.status)
            raise not_understood(str(error)) from error
        finally:
            self._metrics.anchore_requests.labels("version", code).inc()
        return api


def decoded(answer: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """The answer's fields that are used. Raises `ScanFailed` for another shape."""
    try:
        return decoder.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise not_understood(f"an answer of another shape: {error}") from error


def not_understood(message: str) -> ScanFailed:
    """An answer that is none: nothing of it may be believed."""
    return ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, message)


def meaning_of_404(message: str) -> NotAnalyzed | ScanFailed | TryAgain:
    """Check's 404 has four meanings, told apart by the text alone."""
    text = message.lower()
    if "analysis_failed" in text:
        return ScanFailed(ErrorClass.ANALYSIS_FAILED, message)
    if "not analyzed" in text:
        return NotAnalyzed(message)
    if "no active policy" in text or "policy bundle" in text or "policy not found" in text:
        return ScanFailed(ErrorClass.BUNDLE_UNKNOWN, message)
    if "could not find any evaluations" in text:
        return TryAgain(message)
    if "image not found" in text:
        return TryAgain(f"{message} (deleted meanwhile)")
    return not_understood(f"check: HTTP 404 {message}")


def _meaning(operation: str, reply: Reply) -> ScanFailed | TryAgain | Unavailable:
    """What a status of 300 or more means."""
    error = reply.error
    message = f"{operation}: HTTP {reply.status} {error.text}".strip()
    if reply.status in _UNAUTHORIZED:
        return ScanFailed(ErrorClass.ANCHORE_UNAUTHORIZED, message)
    if reply.status == _NOT_FOUND:
        return NotFound(error.text)
    for code in error.codes:
        if code in _ERROR_CODES:
            return ScanFailed(_ERROR_CODES[code], error.text)
    if reply.status >= _SERVER_ERROR:
        return TryAgain(message)
    if operation == "image_add" and reply.status == _REFUSED and error.is_of_the_service:
        return _refused_image(error, message)
    return not_understood(message)


def _refused_image(error: ErrorBody, message: str) -> ScanFailed:
    """The service's own 400 to an added image, without a known code; its schema's refusals are about our request."""
    if "unauthorized" in error.text.lower() or "authentication" in error.text.lower():
        return ScanFailed(ErrorClass.REGISTRY_UNAUTHORIZED, message)
    return ScanFailed(ErrorClass.UNSUPPORTED, message)
