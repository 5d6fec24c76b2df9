"""What the gateway answered, with the evidence for each image: the event that Audits are made of."""

from enum import StrEnum

import msgspec

from shared.contracts.scans import ErrorClass, Reason, Utc
from shared.messages import Decoder, Message


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
    """Name of the container or volume."""
    container_kind: ContainerKind
    """Where in the Pod the image stands."""
    image: str
    """As written in the Pod."""
    outcome: Outcome
    """What was known of it."""
    mode: Mode
    """How the rule was applied."""
    reference: str = ""
    """Normalised; empty where `image` is no reference."""
    whitelist_item: str | None = None
    """The WhiteListItem that let it in whatever is known."""
    policy: str | None = None
    """The ImagePolicy that matched; None: the process defaults."""
    tenant: str = ""
    """Whose Anchore was asked."""
    bundle_id: str = ""
    """The bundle it was judged by."""
    bundle_hash: str = ""
    """That bundle's content."""
    digest: str = ""
    """Digest of the manifest that was judged."""
    list_digest: str = ""
    """Digest of the manifest list it belongs to."""
    evaluated_at: Utc | None = None
    """When Anchore evaluated it."""
    revision: int = 0
    """Revision of the verdict in its bucket; 0: none."""
    error: ErrorClass | None = None
    """Why there was no verdict."""
    error_message: str = ""
    """The same for people."""
    reasons: tuple[Reason, ...] = ()
    """Findings, the stopping ones first."""
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
    """When the answer was decided: the latest counts."""
    namespace: str
    """Of the Pod."""
    pod_name: str
    """Of the Pod, also where Kubernetes has made it up."""
    pod_uid: str
    """Of the Pod: an Audit is owned by this one only."""
    operation: str
    """`CREATE` or `UPDATE`."""
    action: Action
    """What was answered."""
    code: int
    """HTTP status given to the API server's client: 200, 403, 429 or 503."""
    release: str
    """The Helm release the Pod says it belongs to, or what stands for one."""
    fake_release: bool
    """True where its own name stands for a release."""
    user: str
    """Who asked the API server."""
    images: tuple[ImageDecision, ...]
    """Each image that was looked at."""
    sub_resource: str = ""
    """`ephemeralcontainers`, or empty."""
    owner: OwnerClaim | None = None
    """The controller that the Pod names."""
    message: str = ""
    """What the API server's client was told."""


ADMISSION_DECIDED: "Decoder[AdmissionDecided]" = msgspec.json.Decoder(AdmissionDecided)
