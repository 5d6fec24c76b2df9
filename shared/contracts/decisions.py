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


ADMISSION_DECIDED: "Decoder[AdmissionDecided]" = msgspec.json.Decoder(AdmissionDecided)
