"""What is asked of the scanners, and what they say: verdicts, scan states, tenants, and what runs.

The values that lie in buckets are messages too: gateways, audit-writers and scanners of other versions read them.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from shared import subjects
from shared.messages import Decoder, Message

MAX_REASONS = 40
"""Findings kept of one evaluation, the stopping ones first; `reasons_total` tells how many there were."""

Utc = Annotated[datetime, msgspec.Meta(tz=True)]
Tenant = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,40}(?!\n)$")]
"""Part of subjects and keys. To Python a `$` alone also stands before a last line break, hence the lookahead."""


class Result(StrEnum):
    """What Anchore says of an image under a bundle."""

    PASS = "pass"  # noqa: S105  a verdict, no password
    FAIL = "fail"


class ErrorClass(StrEnum):
    """Why there is no verdict; each has its own way into the decision, message and metric."""

    IMAGE_NOT_FOUND = "image_not_found"
    REGISTRY_UNAUTHORIZED = "registry_unauthorized"
    REGISTRY_UNAVAILABLE = "registry_unavailable"
    ANALYSIS_FAILED = "analysis_failed"
    ANALYSIS_TOO_SLOW = "analysis_too_slow"
    UNSUPPORTED = "unsupported"
    ANCHORE_UNAUTHORIZED = "anchore_unauthorized"
    ANCHORE_UNAVAILABLE = "anchore_unavailable"
    ANCHORE_NOT_UNDERSTOOD = "anchore_not_understood"
    BUNDLE_UNKNOWN = "bundle_unknown"
    TENANT_UNKNOWN = "tenant_unknown"
    BAD_REFERENCE = "bad_reference"
    NATS_UNAVAILABLE = "nats_unavailable"


class Reason(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One finding of an evaluation: the gate and trigger that fired, and what Anchore says of it."""

    gate: str
    trigger: str
    action: str
    """`stop`, `warn` or `go`: what this finding alone would lead to."""
    text: str
    trigger_id: str = ""
    """Anchore's id of the finding, stable between evaluations: tells what is new."""


class ScanRequest(Message, frozen=True, kw_only=True, tag="moorgate.v1.scan-request"):
    """A verdict is wanted. Whoever asks has resolved the bundle: the scanner checks exactly that one."""

    tenant: Tenant
    image: str
    """The normalised reference."""
    bundle_id: str
    """The policy bundle that is checked: always a named one."""
    seen: int = 0
    """Revision of the verdict that the asker had; 0: none. A newer one answers the request."""
    asked_at: Utc
    """When it was asked for."""
    asked_by: str = ""
    """The process that asks, for people."""

    @property
    def key(self) -> str:
        """Key of the verdict and scan state that this request is about."""
        return subjects.verdict_key(self.tenant, self.bundle_id, self.image)


class Verdict(Message, frozen=True, kw_only=True, tag="moorgate.v1.verdict"):
    """What Anchore says of one image under one policy bundle for one tenant."""

    tenant: Tenant
    image: str
    """The normalised reference."""
    digest: str
    """Digest of the manifest that was evaluated."""
    list_digest: str
    """Digest of the manifest list it was found through; the same as `digest` for a single manifest."""
    bundle_id: str
    """The policy bundle that is checked: always a named one."""
    bundle_hash: str
    """Content hash of the bundle evaluated; another one in force makes this verdict stale."""
    result: Result
    """What counts; `reasons` says why."""
    evaluated_at: Utc
    """When Anchore evaluated it."""
    fresh_until: Utc
    """Until then it is used as it is; afterwards it is asked for again."""
    known_until: Utc
    """Until then it is kept."""
    failing_since: Utc | None = None
    """Since when the evaluations of this digest under this key have failed without a pass between."""
    reasons: tuple[Reason, ...] = ()
    """Findings, the stopping ones first; at most 40."""
    reasons_total: int = 0
    """All findings there were."""
    unchanged_since: Utc | None = None
    """Since when the evaluations under this key have had this result without another between; None: not known."""
    unmapped: bool = False
    """No mapping of the bundle matched; `result` is what `MOORGATE_ON_UNMAPPED` makes of that."""


class ScanPending(Message, frozen=True, kw_only=True, tag="moorgate.v1.scan-pending"):
    """The scan is under way; look again at `next_look`."""

    tenant: Tenant
    image: str
    """The normalised reference."""
    bundle_id: str
    """The policy bundle that is checked: always a named one."""
    digest: str
    """Digest of the manifest that is analysed."""
    list_digest: str = ""
    """Digest of the manifest list it was found through."""
    since: Utc
    """When the scan was first found pending."""
    next_look: Utc
    """When a scanner looks again."""
    attempt: int = 1
    """Looks so far."""
    begun: int = 0
    """Times its work was begun since anything came of it: a message that kills its worker shows itself here."""


class ScanError(Message, frozen=True, kw_only=True, tag="moorgate.v1.scan-error"):
    """The last attempt gave no verdict; nobody asks again before `until`."""

    tenant: Tenant
    image: str
    """The normalised reference."""
    bundle_id: str
    """The policy bundle that is checked: always a named one."""
    error: ErrorClass
    """Why there is no verdict."""
    message: str
    """The same for people."""
    attempt: int
    """Attempts so far."""
    since: Utc
    """When the first of them failed."""
    until: Utc
    """Nobody asks again before."""
    begun: int = 0
    """As in `ScanPending`."""


ScanState = ScanPending | ScanError


class TenantRecord(Message, frozen=True, kw_only=True, tag="moorgate.v1.tenant"):
    """Which bundle is active for a tenant, and what the bundles in use contain."""

    tenant: Tenant
    active_bundle_id: str | None
    """What judges where no bundle is named; None: no bundle is active."""
    bundles: dict[str, str]
    """Bundle id to content hash."""
    read_at: Utc
    """When a scanner read it from Anchore."""
    away_since: Utc | None = None
    """Since when the tenant's Anchore answers no scanner; None: it answers."""


class RunningDigest(Message, frozen=True, kw_only=True, tag="moorgate.v1.running-digest"):
    """A digest that runs in a namespace, as a kubelet reported it."""

    namespace: str
    """Where it runs."""
    digest: str
    """As the kubelet reports it in `imageID`."""
    images: tuple[str, ...] = ()
    """As the kubelet names them."""
    seen_at: Utc
    """When the inventory saw it."""


SCAN_REQUEST: "Decoder[ScanRequest]" = msgspec.json.Decoder(ScanRequest)
VERDICT: "Decoder[Verdict]" = msgspec.json.Decoder(Verdict)
SCAN_STATE: "Decoder[ScanPending | ScanError]" = msgspec.json.Decoder(ScanPending | ScanError)
TENANT_RECORD: "Decoder[TenantRecord]" = msgspec.json.Decoder(TenantRecord)
