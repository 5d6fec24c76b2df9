"""What would become of each workload's Pods: rule, whitelist and verdict of every image, put together as a gateway does it.

The pure part: what is known goes in, what would be answered comes out.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from services.cli.manifest.files import Manifest
from services.gateway import answer
from services.gateway.decision import NOT_ASKED, Decision, Judged, Step, can_be_refused, decide
from shared import images
from shared.contracts import ErrorClass, Mode, Outcome
from shared.errors import BadImage
from shared.evidence import CANNOT_ANSWER, Evidence
from shared.policies import Policies, Tenants
from shared.releases import release_of
from shared.whitelist import Whitelist, covers_image


class Fate(StrEnum):
    """What a Pod of it would meet."""

    ADMITTED = "admitted"
    WARNED = "warned"
    """Admitted, with a warning."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """Its scan goes on, or nobody can be asked: that may still come out either way."""


class Question(msgspec.Struct, frozen=True):
    """What has to be asked."""

    tenant: str
    bundle_id: str
    """Empty: the tenant's active one."""
    reference: str


class Answered(msgspec.Struct, frozen=True):
    """What came of a question."""

    evidence: Evidence
    bundle_id: str = ""
    """The bundle that judged."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A workload with its rules: what is left is to ask."""

    manifest: Manifest
    judged: tuple[Judged, ...]
    questions: tuple[Question | None, ...]
    """One an image; None: its verdict changes nothing."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one workload."""

    manifest: Manifest
    judged: tuple[Judged, ...]
    fate: Fate
    message: str
    """The gateways' own words; empty where there is nothing to say."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that judges."""

    policies: Policies
    whitelist: Whitelist
    labels: Mapping[str, Mapping[str, str]]
    """Of each namespace."""
    release_labels: tuple[str, ...]


def prepare(manifests: Iterable[Manifest], rules: Rules, tenants: Tenants, now: datetime) -> list[Prepared]:
    """The rule and whitelist item of each image, and what must be asked."""
    return [_prepared(each, rules, tenants, now) for each in manifests]


def _prepared(manifest: Manifest, rules: Rules, tenants: Tenants, now: datetime) -> Prepared:
    workload = manifest.workload
    items = rules.whitelist.covering(release_of(workload, rules.release_labels), workload.namespace, now)
    judged, questions = [], []
    for image in workload.images:
        try:
            parsed, problem = images.parse(image.image), ""
        except BadImage as error:
            parsed, problem = None, str(error)
        text = str(parsed) if parsed else ""
        rule = rules.policies.rule_for(rules.labels.get(workload.namespace), text, image.image, tenants)
        item = next((each.metadata.name for each in items if covers_image(each, text, image.image)), None)
        evidence = NOT_ASKED
        if parsed is None and rule.mode is not Mode.OFF:
            evidence = Evidence(outcome=Outcome.ERROR, error=ErrorClass.BAD_REFERENCE, error_message=problem)
        judged.append(Judged(image=image, reference=text, rule=rule, evidence=evidence, whitelist_item=item))
        is_asked = parsed is not None and (can_be_refused(rule, item) or rule.mode is Mode.WARN)
        questions.append(Question(rule.tenant, rule.bundle_id or "", text) if is_asked else None)
    return Prepared(manifest=manifest, judged=tuple(judged), questions=tuple(questions))


def tell(prepared: Prepared, known: Mapping[Question, Answered], now: datetime) -> Told:
    """What would be answered, with what is known of each image."""
    judged = [
        _completed(each, known[question]) if question else each
        for each, question in zip(prepared.judged, prepared.questions, strict=True)
    ]
    decision = decide(judged)
    fate = _fate(judged, decision)
    workload = prepared.manifest.workload
    if fate in (Fate.REFUSED, Fate.UNKNOWN):
        message = answer.refusal(workload, decision, judged, now)
    else:
        message = "; ".join(answer.warnings(decision, judged, [], now))
    return Told(manifest=prepared.manifest, judged=tuple(judged), fate=fate, message=message)


def _completed(judged: Judged, answered: Answered) -> Judged:
    return msgspec.structs.replace(judged, evidence=answered.evidence, bundle_id=answered.bundle_id)


def _fate(judged: list[Judged], decision: Decision) -> Fate:
    """A refusal that stands fast comes before what is not known yet."""
    pairs = list(zip(judged, decision.steps, strict=True))
    if any(_is_final(each, step) for each, step in pairs):
        return Fate.REFUSED
    worst = max(decision.steps, default=Step.ALLOW)
    if worst >= Step.DEFER:
        return Fate.UNKNOWN
    return Fate.WARNED if worst is Step.WARN else Fate.ADMITTED


def _is_final(judged: Judged, step: Step) -> bool:
    if step is Step.REJECT_ERROR:
        return judged.evidence.error is not None and judged.evidence.error not in CANNOT_ANSWER
    return step is Step.REJECT_FAIL
