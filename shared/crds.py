"""The custom resources as Structs: what the manifests in the chart's files/crds/ say, in code.

Group `security.banzaicloud.com`, version `v1alpha1`: manifests of the Anchore Image Validator keep
working. A test holds these Structs and the manifests' schemas against one another.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from shared.contracts import Reason, Utc
from shared.watches import ObjectMeta

GROUP = "security.banzaicloud.com"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

WHITELIST_PATH = f"/apis/{API_VERSION}/whitelistitems"
"""Cluster-scoped."""

MAX_TRANSITIONS = 10
"""Transitions kept in an Audit, the newest."""


def audits_path(namespace: str) -> str:
    """The Audits of one namespace."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/audits"


class _Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """camelCase on the wire; what is not set is not sent."""


class WhiteListSpec(_Resource, frozen=True, kw_only=True):
    """Who let a release through, why, how far and how long."""

    creator: str = ""
    reason: str = ""
    regexp: str = ""
    """RE2, matched against the whole release name; empty: the item's own name counts."""
    expires_at: datetime | None = None
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
    image: str
    verdict: str
    """`pass`, `fail`, `pending`, `error` or `not_asked`."""
    digest: str = ""
    bundle: str = ""
    policy: str = ""
    tenant: str = ""
    evaluated_at: Utc | None = None
    reasons: tuple[Reason, ...] = ()


class AuditState(StrEnum):
    """What became of the workload."""

    ADMITTED = "admitted"
    REJECTED = "rejected"
    OBSERVED = "observed"
    DEGRADED = "degraded"
    UNVERIFIED = "unverified"


class AuditSpec(_Resource, frozen=True, kw_only=True):
    """The original's fields in the original's words, and the same in a form for programs."""

    release_name: str
    resource: str
    image: tuple[str, ...] = ()
    result: tuple[str, ...] = ()
    action: str = ""
    """`allowed` or `reject`: the original's words."""
    images: tuple[AuditImage, ...] = ()
    user: str = ""


class Transition(_Resource, frozen=True, kw_only=True):
    """A decision that the Audit has seen."""

    id: str
    """Decision id, or the verdict's revision."""
    at: Utc
    action: str
    state: AuditState
    message: str = ""


class Condition(_Resource, frozen=True, kw_only=True):
    """As in metav1.Condition."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: Utc


class AuditStatus(_Resource, frozen=True, kw_only=True):
    """Where the record stands: part of the object itself, there is no status subresource."""

    state: AuditState
    last_seen: Utc
    transitions: tuple[Transition, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Audit(_Resource, frozen=True, kw_only=True, omit_defaults=False):
    """The record of decisions for one workload, in the workload's namespace."""

    metadata: AuditMetadata
    spec: AuditSpec
    status: AuditStatus
    api_version: str = API_VERSION
    kind: str = "Audit"
