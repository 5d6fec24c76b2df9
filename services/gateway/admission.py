"""AdmissionReview v1 and v1beta1: the few fields that are used, and the words of the answer.

Both versions have the same shape; the answer repeats the version of the question.
Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from typing import Any

import msgspec

from shared.errors import MoorgateError

VERSIONS = ("admission.k8s.io/v1", "admission.k8s.io/v1beta1")


class BadReview(MoorgateError):
    """The body is no AdmissionReview that can be answered; the text says why, in one line."""


class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """camelCase on the wire; unknown fields are the API server's business."""


_NULL = msgspec.Raw(b"null")


class GroupVersionKind(_Wire, frozen=True, kw_only=True):
    """What kind of object is asked about."""

    group: str = ""
    version: str = ""
    kind: str = ""


class UserInfo(_Wire, frozen=True, kw_only=True):
    """Who asks, as the API server authenticated them."""

    username: str = ""
    groups: list[str] | None = None


class AdmissionRequest(_Wire, frozen=True, kw_only=True):
    """One question. `object` and `old_object` stay raw until the kind says what they are."""

    uid: str
    kind: GroupVersionKind
    operation: str
    namespace: str = ""
    name: str = ""
    sub_resource: str = ""
    user_info: UserInfo = UserInfo()
    object: msgspec.Raw = _NULL
    old_object: msgspec.Raw = _NULL
    dry_run: bool | None = None


class AdmissionReview(_Wire, frozen=True, kw_only=True):
    """The envelope of question and answer."""

    api_version: str
    kind: str
    request: AdmissionRequest | None = None


class StatusDetails(_Wire, frozen=True, kw_only=True, omit_defaults=True):
    """`retry_after_seconds` becomes Retry-After: kubectl and client-go wait and retry by themselves."""

    retry_after_seconds: int = 0


class Status(_Wire, frozen=True, kw_only=True, omit_defaults=True):
    """Why not; the code is what the API server's client gets."""

    code: int
    message: str
    reason: str
    status: str = "Failure"
    details: StatusDetails | None = None


class AdmissionResponse(_Wire, frozen=True, kw_only=True, omit_defaults=True):
    """One answer."""

    uid: str
    allowed: bool
    status: Status | None = None
    warnings: list[str] = []
    audit_annotations: dict[str, str] = {}


class _AnsweredReview(_Wire, frozen=True, kw_only=True):
    api_version: str
    response: AdmissionResponse
    kind: str = "AdmissionReview"


_REASONS = {403: "Forbidden", 429: "TooManyRequests", 503: "ServiceUnavailable"}
_REVIEW = msgspec.json.Decoder(AdmissionReview)
_ENCODER = msgspec.json.Encoder()


def decode_review(body: bytes) -> tuple[AdmissionRequest, str]:
    """The request and its API version. Raises `BadReview`."""
    review = _decode(body, _REVIEW, "AdmissionReview")
    if review.kind != "AdmissionReview" or review.api_version not in VERSIONS:
        raise BadReview(f"expected an AdmissionReview of {' or '.join(VERSIONS)}")
    if review.request is None or not review.request.uid:
        raise BadReview("the AdmissionReview has no request with a uid")
    return review.request, review.api_version


def decode_object(raw: msgspec.Raw, decoder: "msgspec.json.Decoder[Any]", kind: str) -> Any:
    """The object of a request, decoded by its kind; None where it is null. Raises `BadReview`."""
    text = bytes(raw)
    return None if text == b"null" else _decode(text, decoder, kind)


def encode_answer(response: AdmissionResponse, api_version: str) -> bytes:
    """The AdmissionReview to send back."""
    return _ENCODER.encode(_AnsweredReview(api_version=api_version, response=response))


def allow(uid: str, warnings: list[str], annotations: dict[str, str]) -> AdmissionResponse:
    """Let it in, with a word to whoever asked where there is something to say."""
    return AdmissionResponse(uid=uid, allowed=True, warnings=warnings, audit_annotations=annotations)


def deny(
    uid: str, code: int, message: str, annotations: dict[str, str], retry_after: int = 0
) -> AdmissionResponse:
    """Refuse. 403: a verdict; 429: come back (`retry_after` in seconds, 0: no hint); 503: no verdict to be had."""
    details = StatusDetails(retry_after_seconds=retry_after) if retry_after else None
    status = Status(code=code, message=message, reason=_REASONS[code], details=details)
    return AdmissionResponse(uid=uid, allowed=False, status=status, audit_annotations=annotations)


def _decode(body: bytes, decoder: "msgspec.json.Decoder[Any]", kind: str) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadReview(f"not a readable {kind}: {error}") from error
    except RecursionError as error:
        raise BadReview(f"not a readable {kind}: nested too deeply") from error
