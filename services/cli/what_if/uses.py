"""Each image that runs, with whoever judges it, and whether a candidate bundle would be that. Pure.

What the candidate would not judge (mode `off`, a namespace that no webhook asks about, another bundle by name) is told apart
from what cannot be judged (no digest, a tenant whose Anchore cannot be asked): neither is left out.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from services.audit_writer.running import RunningImage, Workload
from services.cli.manifest.judging import Rules
from services.cli.output import span
from services.gateway.decision import can_be_refused
from shared.contracts import ContainerKind, Mode
from shared.policies import Rule, Tenants
from shared.releases import Release
from shared.whitelist import covers_image


class Subject(msgspec.Struct, frozen=True):
    """What is checked once, however many Pods run it."""

    tenant: str
    digest: str
    reference: str


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What runs, and what judges it, as the cluster says now."""

    workloads: tuple[Workload, ...]
    rules: Rules
    unasked: frozenset[str]
    """Namespaces that no webhook asks about."""
    judged_digests: Mapping[tuple[str, str, str], str]
    """By namespace, Audit and image as written: where kubelets report no digest, of image volumes for instance."""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One image of one workload."""

    namespace: str
    release: str
    workload: str
    """`ReplicaSet/web-5cd466fccb`."""
    container: str
    container_kind: ContainerKind
    image: str
    reference: str
    digest: str
    rule: Rule
    bundle: str
    """What judges it now; empty: no bundle does."""
    let_in_by: str = ""
    """Why its Pods are let in whatever the verdict; empty: a fail refuses them."""
    aside: str = ""
    """Why no bundle in force judges it; empty: one does."""

    @property
    def subject(self) -> Subject:
        """What has to be checked for it."""
        return Subject(self.rule.tenant, self.digest, self.reference)

    @property
    def grace(self) -> str:
        """How long a digest that runs already would still be let in."""
        seconds = self.rule.incumbent_grace
        return f"incumbentGrace {span(seconds)} of {judge_of(self.rule)}" if seconds else ""


def uses(scene: Scene, tenants: Tenants, now: datetime) -> list[Use]:
    """Every image of every workload, and each of its digests."""
    return [
        use
        for workload in scene.workloads
        for image in workload.images
        for use in _of(image, workload, scene, tenants, now)
    ]


def _of(
    image: RunningImage, workload: Workload, scene: Scene, tenants: Tenants, now: datetime
) -> Iterator[Use]:
    namespace, rules = workload.namespace, scene.rules
    rule = rules.policies.rule_for(rules.labels.get(namespace), image.reference, image.image, tenants)
    record = tenants(rule.tenant)
    bundle = rule.bundle_id or (record.active_bundle_id if record else None) or ""
    known = scene.judged_digests.get((namespace, workload.audit, image.image), "")
    for digest in sorted(image.digests) or [known]:
        yield Use(
            namespace=namespace,
            release=workload.release,
            workload=f"{workload.owner.kind}/{workload.owner.name}",
            container=image.container,
            container_kind=image.container_kind,
            image=image.image,
            reference=image.reference,
            digest=digest,
            rule=rule,
            bundle=bundle,
            let_in_by=_let_in_by(image, workload, rules, rule, now),
            aside=_aside(namespace, scene, rule),
        )


def judge_of(rule: Rule) -> str:
    """Whose word a rule is."""
    return f"ImagePolicy {rule.policy}" if rule.policy else "the defaults"


def _let_in_by(image: RunningImage, workload: Workload, rules: Rules, rule: Rule, now: datetime) -> str:
    release = Release(name=workload.release_matched, is_fake=workload.fake_release, recorded=workload.release)
    for item in rules.whitelist.covering(release, workload.namespace, now):
        if covers_image(item, image.reference, image.image):
            return f"WhiteListItem {item.metadata.name}"
    return "" if can_be_refused(rule, None) else f"mode {rule.mode} of {judge_of(rule)}"


def _aside(namespace: str, scene: Scene, rule: Rule) -> str:
    if namespace in scene.unasked:
        return "no webhook asks about the namespace"
    return f"mode off of {judge_of(rule)}" if rule.mode is Mode.OFF else ""
