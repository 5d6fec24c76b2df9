"""The messages: what the services and other tools say to one another over NATS.

Each is a frozen Struct, tagged with its type and version. New fields need defaults and meanings
never change, so that a newer scanner works with an older gateway and the other way round; a break
is a new tag on a new subject. Unknown fields are tolerated. tests/contracts/golden/ keeps every
version ever published; decoding those is a test for ever.

Times are UTC (RFC 3339). Schema evolution: https://jcristharif.com/msgspec/schema-evolution.html
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from shared import subjects
from shared.messages import MAX_MESSAGE_BYTES, Decoder, M, Message, decode, encode

__all__ = ["MAX_MESSAGE_BYTES", "Decoder", "M", "Message", "decode", "encode"]
"""What messages are made of (shared/messages.py), for whoever speaks in them."""

MAX_REASONS = 40
"""Findings kept of one evaluation, the stopping ones first; `reasons_total` tells how many there were."""

MAX_WORKLOADS = 50
"""Workloads named in one flip's event."""

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
    seen: int = 0
    """Revision of the verdict that the asker had; 0: none. A newer one answers the request."""
    asked_at: Utc
    asked_by: str = ""

    @property
    def key(self) -> str:
        """Key of the verdict and scan state that this request is about."""
        return subjects.verdict_key(self.tenant, self.bundle_id, self.image)


class Verdict(Message, frozen=True, kw_only=True, tag="moorgate.v1.verdict"):
    """What Anchore says of one image under one policy bundle for one tenant."""

    tenant: Tenant
    image: str
    digest: str
    """Digest of the manifest that was evaluated."""
    list_digest: str
    """Digest of the manifest list it was found through; the same as `digest` for a single manifest."""
    bundle_id: str
    bundle_hash: str
    """Content hash of the bundle evaluated; another one in force makes this verdict stale."""
    result: Result
    evaluated_at: Utc
    fresh_until: Utc
    known_until: Utc
    failing_since: Utc | None = None
    """Since when the evaluations of this digest under this key have failed without a pass between."""
    reasons: tuple[Reason, ...] = ()
    reasons_total: int = 0
    unchanged_since: Utc | None = None
    """Since when the evaluations under this key have had this result without another between; None: not known."""
    unmapped: bool = False
    """No mapping of the bundle matched; `result` is what `MOORGATE_ON_UNMAPPED` makes of that."""


class ScanPending(Message, frozen=True, kw_only=True, tag="moorgate.v1.scan-pending"):
    """The scan is under way; look again at `next_look`."""

    tenant: Tenant
    image: str
    bundle_id: str
    digest: str
    list_digest: str = ""
    since: Utc
    next_look: Utc
    attempt: int = 1
    begun: int = 0
    """Times its work was begun since anything came of it: a message that kills its worker shows itself here."""


class ScanError(Message, frozen=True, kw_only=True, tag="moorgate.v1.scan-error"):
    """The last attempt gave no verdict; nobody asks again before `until`."""

    tenant: Tenant
    image: str
    bundle_id: str
    error: ErrorClass
    message: str
    attempt: int
    since: Utc
    until: Utc
    begun: int = 0
    """As in `ScanPending`."""


ScanState = ScanPending | ScanError


class TenantRecord(Message, frozen=True, kw_only=True, tag="moorgate.v1.tenant"):
    """Which bundle is active for a tenant, and what the bundles in use contain."""

    tenant: Tenant
    active_bundle_id: str | None
    bundles: dict[str, str]
    """Bundle id to content hash."""
    read_at: Utc
    away_since: Utc | None = None
    """Since when the tenant's Anchore answers no scanner; None: it answers."""


class RunningDigest(Message, frozen=True, kw_only=True, tag="moorgate.v1.running-digest"):
    """A digest that runs in a namespace, as a kubelet reported it."""

    namespace: str
    digest: str
    images: tuple[str, ...] = ()
    """As the kubelet names them."""
    seen_at: Utc


class Action(StrEnum):
    """What the gateway answered."""

    ALLOWED = "allowed"
    REJECTED = "rejected"
    DEFERRED = "deferred"


class Outcome(StrEnum):
    """What was known of one image when the decision was taken."""

    PASS = "pass"  # noqa: S105  an outcome, no password
    FAIL = "fail"
    PENDING = "pending"
    ERROR = "error"
    NOT_ASKED = "not_asked"


class Mode(StrEnum):
    """How a rule is applied."""

    ENFORCE = "enforce"
    WARN = "warn"
    AUDIT = "audit"
    OFF = "off"


class ContainerKind(StrEnum):
    """Where in the Pod the image stands."""

    CONTAINER = "container"
    INIT = "init"
    EPHEMERAL = "ephemeral"
    VOLUME = "volume"


class ImageDecision(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One image of the decision, with the evidence it was decided on."""

    container: str
    container_kind: ContainerKind
    image: str
    """As written in the Pod."""
    outcome: Outcome
    mode: Mode
    reference: str = ""
    """Normalised; empty where `image` is no reference."""
    whitelist_item: str | None = None
    policy: str | None = None
    tenant: str = ""
    bundle_id: str = ""
    bundle_hash: str = ""
    digest: str = ""
    list_digest: str = ""
    evaluated_at: Utc | None = None
    revision: int = 0
    """Revision of the verdict in its bucket; 0: none."""
    error: ErrorClass | None = None
    error_message: str = ""
    reasons: tuple[Reason, ...] = ()
    grace_until: Utc | None = None
    """It fails, but runs in the namespace already: let in until then."""


class OwnerClaim(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The controlling ownerReference as the Pod states it: a user's text until somebody has read that owner."""

    api_version: str
    kind: str
    name: str
    uid: str


class AdmissionDecided(Message, frozen=True, kw_only=True, tag="moorgate.v1.admission-decided"):
    """The gateway answered an admission of a Pod."""

    id: str
    """The `request.uid` of the AdmissionReview: one answer, one id."""
    decided_at: Utc
    namespace: str
    pod_name: str
    pod_uid: str
    operation: str
    action: Action
    code: int
    """HTTP status given to the API server's client: 200, 403, 429 or 503."""
    release: str
    fake_release: bool
    user: str
    images: tuple[ImageDecision, ...]
    sub_resource: str = ""
    owner: OwnerClaim | None = None
    message: str = ""


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


class DeadLetter(Message, frozen=True, kw_only=True, tag="moorgate.v1.dead-letter"):
    """A message that no repetition would help, kept with the reason."""

    what: str
    reason: str
    subject: str
    stream: str
    sequence: int
    deliveries: int
    died_at: Utc
    payload: bytes
    """Base64 in JSON; cut to what fits a message."""


SCAN_REQUEST: "Decoder[ScanRequest]" = msgspec.json.Decoder(ScanRequest)
VERDICT: "Decoder[Verdict]" = msgspec.json.Decoder(Verdict)
SCAN_STATE: "Decoder[ScanPending | ScanError]" = msgspec.json.Decoder(ScanPending | ScanError)
TENANT_RECORD: "Decoder[TenantRecord]" = msgspec.json.Decoder(TenantRecord)
ADMISSION_DECIDED: "Decoder[AdmissionDecided]" = msgspec.json.Decoder(AdmissionDecided)
VERDICT_FLIPPED: "Decoder[VerdictFlipped]" = msgspec.json.Decoder(VerdictFlipped)
DEAD_LETTER: "Decoder[DeadLetter]" = msgspec.json.Decoder(DeadLetter)
