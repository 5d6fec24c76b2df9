"""A flip as a CloudEvent 1.0 in structured mode, signed so that its receiver knows whom it is from.

`X-Moorgate-Signature: t=<seconds>,v1=<hex>`: HMAC-SHA256 with the shared secret over the time, a dot and
the body as sent. The time is part of it, so that what was recorded once is of no use later. `data` is
the event as it is in the stream: its fields are a contract (shared/contracts).

Sources: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md and
…/bindings/http-protocol-binding.md.
"""

import hashlib
import hmac
from datetime import datetime

import msgspec

from services.audit_writer.notifications.text import MAX_NAME, clean, notice, plain
from shared.contracts import VerdictFlipped

CONTENT_TYPE = "application/cloudevents+json"
SIGNATURE = "X-Moorgate-Signature"


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope; `summary` is an extension, one sentence for a person."""

    specversion: str = "1.0"
    id: str
    """The flip's: with `source` the same however often it is sent, and by whichever replica."""
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    summary: str
    data: VerdictFlipped


def body(event: VerdictFlipped, cluster: str) -> bytes:
    """The JSON to post."""
    envelope = CloudEvent(
        id=event.id,
        source=f"moorgate/{cluster}" if cluster else "moorgate",
        type=event.type_name(),
        subject=f"{clean(event.namespace, MAX_NAME)}/{clean(event.release, MAX_NAME)}",
        time=event.flipped_at,
        summary=notice(event, cluster, plain).headline,
        data=event,
    )
    return msgspec.json.encode(envelope)


def signature(secret: str, at: int, body: bytes) -> str:
    """Value of the header for a body sent at `at` (Unix seconds)."""
    signed = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"
