"""What other tools may ask the gateways, and what they are told: one image, one answer.

A question is written by hand as often as by a program: only the image has to be named.
"""

from typing import Annotated

import msgspec

from shared.contracts.decisions import Outcome
from shared.contracts.scans import ErrorClass, Tenant, Utc, Verdict
from shared.messages import Decoder, Message

DEFAULT_ANSWER_WITHIN = 3.0
"""Seconds waited for an unknown verdict where the question does not say: less than the 5 s that clients of NATS
commonly wait for a reply."""

MAX_ANSWER_WITHIN = 30.0
"""Seconds a question is kept at most, whatever it says."""


class VerdictRequest(Message, frozen=True, kw_only=True, tag="moorgate.v1.verdict-request"):
    """What does Anchore say of this image? The tenant is part of the subject."""

    image: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    """As a Pod would name it."""
    bundle_id: Annotated[str, msgspec.Meta(max_length=256)] = ""
    """The policy bundle to judge by; empty: the one that is active for the tenant."""
    timeout_seconds: Annotated[float, msgspec.Meta(ge=0)] = DEFAULT_ANSWER_WITHIN
    """Until when an answer is of use: an unknown image is scanned meanwhile. At most 30 s count."""


class VerdictAnswer(Message, frozen=True, kw_only=True, tag="moorgate.v1.verdict-answer"):
    """What is known of the image at that moment: a verdict, or how its scan stands."""

    tenant: Tenant
    image: str
    """The normalised reference."""
    bundle_id: str = ""
    """The bundle asked about; empty where the tenant has no active one."""
    outcome: Outcome
    """`pass` or `fail`: `verdict` counts. `pending`: ask again. `error`: `error` says why there is no verdict."""
    verdict: Verdict | None = None
    is_stale: bool = False
    """A pass past its time, which counts only because nobody can be asked now."""
    digest: str = ""
    """Of the image, where it is known."""
    pending_since: Utc | None = None
    next_look: Utc | None = None
    """When a scanner looks again; asking earlier tells nothing new."""
    error: ErrorClass | None = None
    error_message: str = ""


VERDICT_REQUEST: "Decoder[VerdictRequest]" = msgspec.json.Decoder(VerdictRequest)
VERDICT_ANSWER: "Decoder[VerdictAnswer]" = msgspec.json.Decoder(VerdictAnswer)
