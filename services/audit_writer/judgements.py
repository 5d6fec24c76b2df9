"""By what each running image is judged now: the ImagePolicy in force and the tenant's bundle, as at an admission.

The answer names the verdict's key. One image under two policies has two keys; a thousand Pods of one image
under one policy have one. What is under mode `off`, is no reference or has no bundle to be judged by has
none: nobody scans it, and nothing it does is a flip. Pure: a snapshot, policies and tenants in, judgements out.
"""

from collections.abc import Mapping

import msgspec

from services.audit_writer.running import RunningImage, Snapshot, Workload
from shared import images
from shared.contracts import Mode
from shared.errors import BadImage
from shared.policies import Policies, Rule, Tenants
from shared.subjects import verdict_key

WorkloadId = tuple[str, str]
"""Namespace and name of the Audit."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Whose verdict counts for an image, and how it is applied."""

    tenant: str
    bundle_id: str
    bundle_hash: str | None
    """Content in force, as the tenant's record says; None: it does not say."""
    reference: str
    mode: Mode
    policy: str | None = None
    """The ImagePolicy; None: the process defaults."""

    @property
    def key(self) -> str:
        """Where the verdict lies."""
        return verdict_key(self.tenant, self.bundle_id, self.reference)

    @property
    def is_mutable(self) -> bool:
        """The reference can come to mean another image."""
        try:
            return images.parse(self.reference).is_mutable
        except BadImage:
            return True


class RunningKey(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that runs under one key."""

    judgement: Judgement
    """Of one of the workloads: policy and mode may differ between them."""
    pods: int
    workloads: tuple[WorkloadId, ...]


class Judgements:
    """All judgements of one snapshot."""

    def __init__(self, of_image: Mapping[tuple[str, str], Judgement], keys: Mapping[str, RunningKey]) -> None:
        self._of_image = of_image
        self.keys = keys

    def of(self, namespace: str, written: str) -> Judgement | None:
        """Of an image as Pods of the namespace write it; None: it is not judged, or does not run there."""
        return self._of_image.get((namespace, written))


NOTHING = Judgements({}, {})


def judge(snapshot: Snapshot, policies: Policies, tenants: Tenants) -> Judgements:
    """Whose verdict counts for what runs. A tenant without a record, or without a bundle, judges nothing."""
    found: dict[tuple[str, str], Judgement | None] = {}
    pods: dict[str, int] = {}
    workloads: dict[str, dict[WorkloadId, None]] = {}
    first: dict[str, Judgement] = {}
    for where, workload in snapshot.workloads.items():
        for key, judgement in _of_workload(workload, snapshot, policies, tenants, found).items():
            first.setdefault(key, judgement)
            pods[key] = pods.get(key, 0) + workload.pods
            workloads.setdefault(key, {})[where] = None
    keys = {
        key: RunningKey(judgement=judgement, pods=pods[key], workloads=tuple(workloads[key]))
        for key, judgement in first.items()
    }
    return Judgements({image: judgement for image, judgement in found.items() if judgement}, keys)


def _of_workload(
    workload: Workload,
    snapshot: Snapshot,
    policies: Policies,
    tenants: Tenants,
    found: dict[tuple[str, str], Judgement | None],
) -> dict[str, Judgement]:
    """By key, so that an image in two containers counts once; policies see namespace and image, so these are remembered."""
    judged: dict[str, Judgement] = {}
    labels = snapshot.namespaces.get(workload.namespace)
    for image in workload.images:
        known = (workload.namespace, image.image)
        if known not in found:
            rule = policies.rule_for(labels, image.reference, image.image, tenants)
            found[known] = _judgement(image, rule, tenants)
        if judgement := found[known]:
            judged.setdefault(judgement.key, judgement)
    return judged


def _judgement(image: RunningImage, rule: Rule, tenants: Tenants) -> Judgement | None:
    record = tenants(rule.tenant)
    if rule.mode is Mode.OFF or not image.reference or record is None:
        return None
    bundle_id = rule.bundle_id or record.active_bundle_id
    if not bundle_id:
        return None
    return Judgement(
        tenant=rule.tenant,
        bundle_id=bundle_id,
        bundle_hash=record.bundles.get(bundle_id),
        reference=image.reference,
        mode=rule.mode,
        policy=rule.policy,
    )
