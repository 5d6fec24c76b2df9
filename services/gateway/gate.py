"""The way of an admission: workload → release, whitelist, rule → verdicts → decide → record → reply.

One instance serves all requests; it holds no state of its own. What is asked over HTTP, and what
is wrong with a body, is webhook.py's business.
"""

from datetime import UTC, datetime

import msgspec

from services.gateway import answer
from services.gateway.admission import AdmissionRequest, AdmissionResponse, allow, deny
from services.gateway.deadlines import CONTROLLER_WAIT, Deadline
from services.gateway.decision import NOT_ASKED, Decision, Judged, can_be_refused, decide
from services.gateway.evidence import Evidence
from services.gateway.metrics import GatewayMetrics
from services.gateway.outbox import Outbox
from services.gateway.record import decided
from services.gateway.rules import Rule
from services.gateway.verdict_lookup import Finding, Question, Source, VerdictLookup
from services.gateway.whitelist import Release, Whitelist, covers_image, release_of
from services.gateway.workloads import PodImage, Workload, extract
from shared import images
from shared.contracts import Action, ErrorClass, Mode, Outcome
from shared.crds import WhiteListItem
from shared.errors import BadImage

_CONTROLLERS = ("system:kube-controller-manager",)
_CONTROLLER_PREFIXES = ("system:node:", "system:serviceaccount:kube-system:")


class Answer(msgspec.Struct, frozen=True):
    """The reply, and what the metrics want to know of it."""

    response: AdmissionResponse
    action: Action
    source: Source


class Gate:
    """Judges admissions."""

    def __init__(
        self,
        *,
        whitelist: Whitelist,
        defaults: Rule,
        release_labels: tuple[str, ...],
        lookup: VerdictLookup,
        outbox: Outbox,
        metrics: GatewayMetrics,
    ) -> None:
        self._whitelist = whitelist
        self._defaults = defaults
        self._release_labels = release_labels
        self._lookup = lookup
        self._outbox = outbox
        self._metrics = metrics

    async def review(
        self, request: AdmissionRequest, deadline: Deadline, started: float, trace: str
    ) -> Answer:
        """The answer to one request. Raises `BadReview`."""
        workload = extract(request)
        if workload is None or not workload.images or workload.is_being_deleted:
            return Answer(allow(request.uid, [], {}), Action.ALLOWED, Source.MEMORY)
        release = release_of(workload, self._release_labels)
        items = self._whitelist.covering(release, workload.namespace, datetime.now(UTC))
        wait = _patience(request, workload, deadline, started)
        judged, source = await self._judge(workload, items, wait, trace)
        now, decision = datetime.now(UTC), decide(judged)
        if not workload.is_pod:
            warnings = answer.forecast(workload, decision, judged, now)
            return Answer(allow(request.uid, warnings, {}), Action.ALLOWED, source)
        response = self._reply(request, workload, decision, judged, items=items, source=source, now=now)
        if not request.dry_run:
            self._record(
                request, workload, release, decision, judged, response=response, now=now, trace=trace
            )
        return Answer(response, decision.action, source)

    async def _judge(
        self, workload: Workload, items: list[WhiteListItem], deadline: Deadline, trace: str
    ) -> tuple[list[Judged], Source]:
        """Every image with its rule and its evidence."""
        prepared = [self._prepare(image, items) for image in workload.images]
        questions = [each for each in prepared if isinstance(each[1], Question)]
        findings, source = await self._lookup.find(
            [question for _, question in questions if isinstance(question, Question)], deadline, trace
        )
        found = iter(findings)
        return [
            _with_evidence(base, next(found) if isinstance(known, Question) else known)
            for base, known in prepared
        ], source

    def _prepare(self, image: PodImage, items: list[WhiteListItem]) -> "tuple[Judged, Question | Finding]":
        """The image's rule and whitelist item, and either a question to ask or what is known already."""
        rule = self._defaults
        try:
            reference = images.parse(image.image)
        except BadImage as error:
            evidence = Evidence(
                outcome=Outcome.ERROR, error=ErrorClass.BAD_REFERENCE, error_message=str(error)
            )
            item = _item_for(items, "", image.image)
            return _judged(image, "", rule, item), Finding(evidence, "")
        item = _item_for(items, str(reference), image.image)
        base = _judged(image, str(reference), rule, item)
        if rule.mode is Mode.OFF:
            return base, Finding(NOT_ASKED, "")
        return base, Question(reference, rule, can_be_refused(rule, item))

    def _reply(
        self,
        request: AdmissionRequest,
        workload: Workload,
        decision: Decision,
        judged: list[Judged],
        *,
        items: list[WhiteListItem],
        source: Source,
        now: datetime,
    ) -> AdmissionResponse:
        annotations = answer.annotations(decision, judged, source, now)
        if decision.action is Action.ALLOWED:
            wide = [item.metadata.name for item in items if not item.spec.namespaces]
            return allow(request.uid, answer.warnings(decision, judged, wide, now), annotations)
        is_person = not _is_controller(request, workload)
        hint = decision.action is Action.DEFERRED and is_person
        return deny(
            request.uid,
            decision.code,
            answer.refusal(workload, decision, judged, now),
            annotations,
            retry_after=answer.retry_after(judged, now) if hint else 0,
        )

    def _record(
        self,
        request: AdmissionRequest,
        workload: Workload,
        release: Release,
        decision: Decision,
        judged: list[Judged],
        *,
        response: AdmissionResponse,
        now: datetime,
        trace: str,
    ) -> None:
        message = response.status.message if response.status else ""
        event = decided(
            request, workload, release, decision=decision, judged=judged, message=message, now=now
        )
        self._outbox.record(event, trace)


def _patience(request: AdmissionRequest, workload: Workload, deadline: Deadline, started: float) -> Deadline:
    """How long this one may be kept: workloads not at all, built-in controllers half a second."""
    if not workload.is_pod:
        return Deadline(started)
    return deadline.capped(started, CONTROLLER_WAIT) if _is_controller(request, workload) else deadline


def _is_controller(request: AdmissionRequest, workload: Workload) -> bool:
    """A built-in controller, by its name or by the Pod's controlling owner; forging it costs only the hint."""
    user = request.user_info.username
    return workload.owner is not None or user in _CONTROLLERS or user.startswith(_CONTROLLER_PREFIXES)


def _item_for(items: list[WhiteListItem], reference: str, written: str) -> str | None:
    return next((item.metadata.name for item in items if covers_image(item, reference, written)), None)


def _judged(image: PodImage, reference: str, rule: Rule, item: str | None) -> Judged:
    return Judged(image=image, reference=reference, rule=rule, evidence=NOT_ASKED, whitelist_item=item)


def _with_evidence(base: Judged, finding: Finding) -> Judged:
    return msgspec.structs.replace(base, evidence=finding.evidence, bundle_id=finding.bundle_id)
