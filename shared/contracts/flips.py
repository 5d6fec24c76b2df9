"""What runs passes no longer, or passes again: the event that people are told of."""

from enum import StrEnum

import msgspec

from shared.contracts.scans import Reason, Result, Tenant, Utc
from shared.messages import Decoder, Message

MAX_WORKLOADS = 50
"""Workloads named in one flip's event."""


class FlipCause(StrEnum):
    """What turned a verdict."""

    FEED = "feed"
    """New findings (or corrected ones) about the same image under the same bundle."""
    BUNDLE = "bundle"
    """The bundle's content has changed."""
    POLICY = "policy"
    """Another bundle or tenant judges the image now: an ImagePolicy, or the tenant's active bundle, has changed."""
    TAG = "tag"
    """The tag means another image now."""


class AffectedWorkload(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A workload that runs the image whose verdict has turned."""

    kind: str
    name: str
    audit: str
    """Name of its Audit, in the event's namespace."""


class VerdictFlipped(Message, frozen=True, kw_only=True, tag="moorgate.v1.verdict-flipped"):
    """What runs passes no longer, or passes again: once a flip, namespace and release."""

    id: str
    """The same whoever finds the flip, and however often."""
    flipped_at: Utc
    tenant: Tenant
    image: str
    """The normalised reference."""
    digest: str
    bundle_id: str
    bundle_hash: str = ""
    policy: str | None = None
    """The ImagePolicy in force; None: the process defaults."""
    revision: int
    """Of the verdict that turned, in its bucket."""
    result: Result
    cause: FlipCause
    namespace: str
    release: str
    fake_release: bool = False
    workloads: tuple[AffectedWorkload, ...] = ()
    """At most `MAX_WORKLOADS`; `workloads_total` tells how many there are."""
    workloads_total: int = 0
    new_reasons: tuple[Reason, ...] = ()
    """Findings that were not there before; after a flip to pass those that stopped it and are gone."""
    reasons_total: int = 0
    """All findings of the evaluation, new or not."""
    failing_since: Utc | None = None


VERDICT_FLIPPED: "Decoder[VerdictFlipped]" = msgspec.json.Decoder(VerdictFlipped)
