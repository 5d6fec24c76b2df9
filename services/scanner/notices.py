"""What a notification of Anchore is about: an account, tags and digests, and nothing else of it.

The Engine's envelopes (recorded: the real ones and those of its test endpoint differ), Enterprise's, and single
events are all read by one generous set of fields: whatever stands where a tag or a digest may stand is taken, what
cannot be one is left out. What a notification says *of* an image is not read at all: it is no evidence.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from shared import images
from shared.errors import BadImage, MoorgateError
from shared.images import ImageReference

KINDS = ("analysis_update", "policy_eval", "tag_update", "vuln_update", "event_log")
"""Types of notification; `OTHER` is every other."""

OTHER = "other"

MAX_NAMED = 20
"""Tags, and digests, taken of one notification: real ones name one tag and two digests."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG_OF_DIGEST = re.compile(r"sha256-([0-9a-f]{64})")
"""How an image that was added by its digest is known to Anchore (services/scanner/anchore.py, `full_tag`)."""


class BadNotice(MoorgateError):
    """A body that is no notification; the text says why."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A hint to look at some images again."""

    kind: str
    account: str = ""
    """Empty: it does not say."""
    tags: tuple[ImageReference, ...] = ()
    digests: tuple[str, ...] = ()


class _Resource(msgspec.Struct):
    id: Any = None
    type: Any = None
    user_id: Any = None
    account_name: Any = None


class _Event(msgspec.Struct):
    resource: _Resource | None = None


class _Payload(msgspec.Struct, rename={"digest": "imageDigest", "user": "userId"}):
    subscription_key: Any = None
    digest: Any = None
    image_digest: Any = None
    user: Any = None
    account_name: Any = None
    curr_eval: msgspec.Raw = msgspec.Raw(b"null")
    """A digest somewhere in a whole evaluation, or a list of digests."""
    last_eval: msgspec.Raw = msgspec.Raw(b"null")
    event: _Event | None = None
    resource: _Resource | None = None


class _Data(msgspec.Struct):
    notification_type: Any = None
    notification_payload: _Payload | None = None


class _Envelope(_Payload):
    data: _Data | None = None
    queue: Any = msgspec.field(default=None, name="queueId")
    queue_id: Any = None


class _Evaluation(msgspec.Struct, rename={"digest": "imageDigest"}):
    digest: Any = None
    image_digest: Any = None


def decode(body: bytes) -> Notice:
    """The notice in a body. Raises `BadNotice` where it is no JSON object of a notification's shape."""
    try:
        envelope = _ENVELOPE.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadNotice(f"no notification of Anchore: {error}") from error
    inner = envelope.data.notification_payload if envelope.data else None
    payloads: list[_Payload] = [envelope, inner] if inner else [envelope]
    named = [text for payload in payloads for text in _named(payload) if isinstance(text, str)]
    digests = dict.fromkeys(text for text in named if _DIGEST.fullmatch(text))
    tags = dict.fromkeys(tag for text in named if text not in digests and (tag := reference(text)))
    return Notice(
        kind=_kind(envelope, payloads),
        account=next((found for payload in payloads for found in _accounts(payload)), ""),
        tags=tuple(tags)[:MAX_NAMED],
        digests=tuple(digests)[:MAX_NAMED],
    )


def references(tags: tuple[ImageReference, ...], digests: tuple[str, ...]) -> list[ImageReference]:
    """Every way in which a Pod may name what a notice is about."""
    found = dict.fromkeys(tags)
    for tag in tags:
        for digest in digests:
            found |= dict.fromkeys((_with(tag, None, digest), _with(tag, tag.tag, digest)))
    return list(found)


def _kind(envelope: _Envelope, payloads: list[_Payload]) -> str:
    told = envelope.data.notification_type if envelope.data else None
    for each in (told, envelope.queue, envelope.queue_id):
        if each in KINDS:
            return str(each)
    return "event_log" if any(each.event or each.resource for each in payloads) else OTHER


def _accounts(payload: _Payload) -> Iterator[str]:
    resource = _resource(payload)
    for each in (payload.user, payload.account_name, resource.user_id, resource.account_name):
        if isinstance(each, str) and each:
            yield each


def _named(payload: _Payload) -> Iterator[object]:
    yield from (payload.subscription_key, payload.digest, payload.image_digest)
    for raw in (payload.curr_eval, payload.last_eval):
        yield from _evaluated(raw)
    resource = _resource(payload)
    if isinstance(resource.type, str) and "image" in resource.type:
        yield resource.id


def _resource(payload: _Payload) -> _Resource:
    return (payload.event.resource if payload.event else None) or payload.resource or _Resource()


def _evaluated(raw: msgspec.Raw) -> list[Any]:
    try:
        found = _EVALUATION.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    return found if isinstance(found, list) else [found.digest, found.image_digest]


def reference(text: str) -> ImageReference | None:
    """The reference a Pod would have, or None; a tag made of a digest stands for that digest."""
    try:
        found = images.parse(text)
    except BadImage:
        return None
    made_of = _TAG_OF_DIGEST.fullmatch(found.tag or "")
    return _with(found, None, f"sha256:{made_of[1]}") if made_of else found


def _with(reference: ImageReference, tag: str | None, digest: str) -> ImageReference:
    return msgspec.structs.replace(reference, tag=tag, digest=digest)


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_EVALUATION = msgspec.json.Decoder(_Evaluation | list[Any])
