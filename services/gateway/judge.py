"""Every image of a workload with its rule and its evidence: what the decision is taken on.

namespace's labels → rule of each image → whitelist item → question → finding → grace for what runs already
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from services.gateway.deadlines import Deadline
from services.gateway.decision import NOT_ASKED, Judged, can_be_refused
from services.gateway.findings import Finding, Question
from services.gateway.image_policies import ImagePolicies
from services.gateway.incumbents import IsRunning, grace_until
from services.gateway.namespaces import NamespaceLabels
from services.gateway.verdict_lookup import Source, VerdictLookup
from services.gateway.workloads import Workload
from shared import images
from shared.contracts import ErrorClass, Mode, Outcome
from shared.crds import WhiteListItem
from shared.errors import BadImage
from shared.evidence import Evidence
from shared.images import ImageReference
from shared.pods import PodImage
from shared.policies import Rule, Tenants
from shared.whitelist import covers_image


class Patience(msgspec.Struct, frozen=True):
    """How long one admission may be kept."""

    reading: Deadline
    """For the labels of a namespace that nobody has seen yet."""
    waiting: Deadline
    """For verdicts."""


class _Prepared(msgspec.Struct, frozen=True):
    """One image before its evidence: a question, or what needs none."""

    image: PodImage
    reference: str
    rule: Rule
    whitelist_item: str | None
    known: Question | Finding


class Judge:
    """Finds the rule and the evidence for each image; decides nothing."""

    def __init__(
        self,
        *,
        policies: ImagePolicies,
        namespaces: NamespaceLabels,
        lookup: VerdictLookup,
        tenants: Tenants,
        is_running: IsRunning,
    ) -> None:
        self._policies = policies
        self._namespaces = namespaces
        self._lookup = lookup
        self._tenants = tenants
        self._is_running = is_running

    async def judge(
        self, workload: Workload, items: list[WhiteListItem], patience: Patience, trace: str
    ) -> tuple[list[Judged], Source]:
        """The images in the workload's order, and where the evidence came from."""
        labels = await self._labels(workload.namespace, patience.reading)
        prepared = [self._prepare(image, labels, items) for image in workload.images]
        questions = [each.known for each in prepared if isinstance(each.known, Question)]
        findings, source = await self._lookup.find(questions, workload.namespace, patience.waiting, trace)
        found = iter(findings)
        now = datetime.now(UTC)
        judged = [
            self._complete(
                each, next(found) if isinstance(each.known, Question) else each.known, workload.namespace, now
            )
            for each in prepared
        ]
        return judged, source

    async def _labels(self, namespace: str, deadline: Deadline) -> Mapping[str, str] | None:
        """Labels matter to policies alone; without any, no namespace needs to be known."""
        if not len(self._policies):
            return {}
        return await self._namespaces.labels(namespace, deadline.remaining)

    def _prepare(
        self, image: PodImage, labels: Mapping[str, str] | None, items: list[WhiteListItem]
    ) -> "_Prepared":
        """The image's rule and whitelist item, and either a question to ask or what is known already."""
        reference, problem = _parsed(image.image)
        text = str(reference) if reference else ""
        rule = self._policies.rules.rule_for(labels, text, image.image, self._tenants)
        item = next((each.metadata.name for each in items if covers_image(each, text, image.image)), None)
        known: Question | Finding
        if rule.mode is Mode.OFF:
            known = Finding(NOT_ASKED, "")
        elif reference is None:
            evidence = Evidence(outcome=Outcome.ERROR, error=ErrorClass.BAD_REFERENCE, error_message=problem)
            known = Finding(evidence, "")
        else:
            known = Question(reference, rule, can_be_refused(rule, item))
        return _Prepared(image, text, rule, item, known)

    def _complete(self, each: "_Prepared", finding: Finding, namespace: str, now: datetime) -> Judged:
        evidence = finding.evidence
        return Judged(
            image=each.image,
            reference=each.reference,
            rule=each.rule,
            evidence=evidence,
            whitelist_item=each.whitelist_item,
            grace_until=grace_until(evidence.verdict, each.rule, namespace, self._is_running, now),
            bundle_id=finding.bundle_id,
        )


def _parsed(written: str) -> tuple[ImageReference | None, str]:
    """The reference, or why there is none."""
    try:
        return images.parse(written), ""
    except BadImage as error:
        return None, str(error)
