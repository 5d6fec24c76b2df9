"""The custom resources as Structs: what the manifests in the chart's files/crds/ say, in code.

Group `security.banzaicloud.com`, version `v1alpha1`: manifests of the Anchore Image Validator keep
working. A test holds these Structs and the manifests' schemas against one another.
"""

import hashlib
import re
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from shared.contracts import ContainerKind, OwnerClaim, Reason, Utc
from shared.objects import ObjectMeta

GROUP = "security.banzaicloud.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

WHITELIST_PATH = f"/apis/{API_VERSION}/whitelistitems"
"""Cluster-scoped."""

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Of a time that a record lacks."""

MAX_TRANSITIONS = 10
"""Transitions kept in an Audit, the newest."""


FAKE_RELEASE_LABEL = "fakerelease"
"""On every Audit, `true` or `false`: the original's label."""
RELEASE_LABEL, ACTION_LABEL, STATE_LABEL = f"{GROUP}/release", f"{GROUP}/action", f"{GROUP}/state"
"""What Audits are selected by; a release that is no label value stands there by its hash."""
OWNED_LABEL = f"{GROUP}/owned"
"""`false`: no owner takes the Audit along when it goes; it has a retention instead."""

COMPLETE_LABEL = f"{GROUP}/complete"
"""`false`: something was let in before its verdict was known; the record is completed when that is there."""

OWNER_UNVERIFIED = "OwnerUnverified"
"""Condition: the Pod named a controller that did not check out; the record is the Pod's own."""
TRUNCATED = "Truncated"
"""Condition: the decision was larger than an Audit may be; its message says what is missing."""

MAX_NAME = 253
"""Characters of an object's name (DNS-1123 subdomain)."""

_PLAIN_KINDS = {
    "apps/v1": frozenset({"ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"}),
    "batch/v1": frozenset({"CronJob", "Job"}),
    "v1": frozenset({"ReplicationController"}),
}
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_HASH_LENGTH = 8


def audits_path(namespace: str = "") -> str:
    """The Audits of one namespace, or of all."""
    within = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/{API_VERSION}/{within}audits"


def owner_audit_name(owner: OwnerClaim) -> str:
    """The one Audit of all Pods of this owner: `replicaset-web-5cd466fccb`.

    Kinds that Kubernetes itself does not know get a hash of group, kind and name: two of them may
    differ in their group alone.
    """
    plain = owner.kind in _PLAIN_KINDS.get(owner.api_version, ())
    group = owner.api_version.rpartition("/")[0]
    return _name(owner.kind, owner.name, "" if plain else group, hashed=not plain)


def pod_audit_name(pod: str) -> str:
    """The Audit of a Pod without a controller."""
    return _name("pod", pod, "", hashed=False)


def label_value(text: str) -> str:
    """`text` where it can be a label's value, else a hash that stands for it."""
    if _LABEL_VALUE.fullmatch(text):
        return text
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _name(kind: str, name: str, group: str, *, hashed: bool) -> str:
    """A DNS-1123 subdomain for any text; what had to be changed is told apart by a hash."""
    wanted = f"{kind}-{name}".lower()
    if not hashed and len(wanted) <= MAX_NAME and name == name.lower() and _SUBDOMAIN.fullmatch(wanted):
        return wanted
    digest = hashlib.sha256(f"{group}/{kind}/{name}".encode(errors="replace")).hexdigest()[:_HASH_LENGTH]
    safe = re.sub(r"[^a-z0-9]+", "-", wanted)[: MAX_NAME - _HASH_LENGTH - 1].strip("-")
    return f"{safe}-{digest}" if safe else digest


class _Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """camelCase on the wire; what is not set is not sent."""


class WhiteListSpec(_Resource, frozen=True, kw_only=True):
    """Who let a release through, why, how far and how long."""

    creator: str = ""
    reason: str = ""
    regexp: str = ""
    """RE2, matched against the whole release name; empty: the item's own name counts."""
    expires_at: Utc | None = None
    namespaces: tuple[str, ...] = ()
    """Empty: everywhere, as in the original."""
    images: tuple[str, ...] = ()
    """Globs on the normalised reference; empty: every image of the release."""


class WhiteListItem(_Resource, frozen=True, kw_only=True):
    """A release that is accepted whatever the scan says; it is still scanned and recorded."""

    metadata: ObjectMeta
    spec: WhiteListSpec


class OwnerReference(_Resource, frozen=True, kw_only=True):
    """`blockOwnerDeletion` stays false: setting it needs rights on the owner's finalizers.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/
    """

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class AuditMetadata(_Resource, frozen=True, kw_only=True):
    """The part of an Audit's metadata that Moorgate writes; uid and resourceVersion guard the apply."""

    name: str
    namespace: str
    uid: str | None = None
    resource_version: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: Utc | None = None
    deletion_timestamp: Utc | None = None


class AuditImage(_Resource, frozen=True, kw_only=True):
    """One image of the workload, as it was last judged."""

    container: str
    container_kind: ContainerKind = ContainerKind.CONTAINER
    image: str
    verdict: str
    """`pass`, `fail`, `pending`, `error` or `not_asked`."""
    digest: str = ""
    list_digest: str = ""
    """Digest of the manifest list the judged manifest belongs to: what a node may report instead."""
    bundle: str = ""
    bundle_hash: str = ""
    """Content hash of the bundle it was judged under: tells a flip by new findings from one by a new bundle."""
    policy: str = ""
    tenant: str = ""
    evaluated_at: Utc | None = None
    grace_until: Utc | None = None
    reasons: tuple[Reason, ...] = ()
    whitelist_item: str = ""
    """The item that let the image in whatever its verdict."""
    error: str = ""
    """Why there is no verdict: the error class, and what was said."""


class AuditState(StrEnum):
    """What became of the workload."""

    ADMITTED = "admitted"
    REJECTED = "rejected"
    OBSERVED = "observed"
    DEGRADED = "degraded"
    UNVERIFIED = "unverified"


class AuditSpec(_Resource, frozen=True, kw_only=True, omit_defaults=False):
    """The original's fields in the original's words, and the same in a form for programs.

    Every field is always sent: what an apply leaves out stays where another manager owns it too.
    """

    release_name: str
    resource: str
    image: tuple[str, ...] = ()
    result: tuple[str, ...] = ()
    action: str = ""
    """`allowed` or `reject`: the original's words."""
    images: tuple[AuditImage, ...] = ()
    user: str = ""


class Transition(_Resource, frozen=True, kw_only=True):
    """The latest decision with one outcome that the Audit has seen."""

    id: str
    """Decision id, or the verdict's revision."""
    at: Utc
    outcome: str
    """What was decided, as a hash: action, and reference, verdict and digest of each image. One entry each."""
    action: str
    state: AuditState
    message: str = ""


class DecisionMark(_Resource, frozen=True, kw_only=True, omit_defaults=False):
    """The decision that spec and state are taken from; a later one replaces them, an earlier one does not."""

    id: str
    at: Utc
    attempt: bool = False
    """It left the workload as it was (a refused update, a debug container, a name already taken): counts
    less than any other."""
    judged_at: Utc = NEVER
    """When a verdict last changed what is said of the images; until then when the decision was taken."""


class Condition(_Resource, frozen=True, kw_only=True):
    """As in metav1.Condition."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: Utc


class AuditSummary(_Resource, frozen=True, kw_only=True, omit_defaults=False):
    """The record at a glance: what `kubectl get audits` shows. Follows from spec and state."""

    images: str = ""
    """The image that matters most, and how many more there are."""
    result: str = ""
    """How many of them failed, or what else is to be said of them."""
    reason: str = ""
    """Why, for the image that matters most."""
    policy: str = ""
    """The ImagePolicies that judged; `default` where none matched."""


class AuditStatus(_Resource, frozen=True, kw_only=True, omit_defaults=False):
    """Where the record stands: part of the object itself, there is no status subresource."""

    state: AuditState
    last_seen: Utc
    decision: DecisionMark
    summary: AuditSummary = AuditSummary()
    transitions: tuple[Transition, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Audit(_Resource, frozen=True, kw_only=True, omit_defaults=False):
    """The record of decisions for one workload, in the workload's namespace."""

    metadata: AuditMetadata
    spec: AuditSpec
    status: AuditStatus
    api_version: str = API_VERSION
    kind: str = "Audit"
