"""The way of an admission: workload → release, whitelist → judged images → decide → record → reply.

One instance serves all requests; it holds no state of its own. What is asked over HTTP, and what
is wrong with a body, is webhook.py's business.
"""

from datetime import UTC, datetime

import msgspec

from services.gateway import answer
from services.gateway.admission import AdmissionRequest, AdmissionResponse, allow, deny
from services.gateway.deadlines import CONTROLLER_WAIT, Deadline
from services.gateway.decision import Decision, Judged, decide
from services.gateway.judge import Judge, Patience
from services.gateway.outbox import Outbox, Outgoing
from services.gateway.record import decided
from services.gateway.verdict_lookup import Source
from services.gateway.workloads import Workload, extract
from shared.contracts import Action
from shared.crds import WhiteListItem
from shared.releases import release_of
from shared.subjects import decision_subject
from shared.whitelist import Whitelist

UNRECORDED = (
    "Moorgate cannot record its decision now (neither its outbox nor NATS takes it), and is told to let nothing in"
    " without a record; try again soon"
)

RETRY_UNRECORDED = 5
"""Seconds after which a client that can do so tries again by itself."""

_CONTROLLERS = ("system:kube-controller-manager",)
_CONTROLLER_PREFIXES = ("system:node:", "system:serviceaccount:kube-system:")


class Answer(msgspec.Struct, frozen=True):
    """The reply, and what the metrics want to know of it."""

    response: AdmissionResponse
    action: Action
    source: Source
    is_unrecorded: bool = False
    """It says only that the decision could not be recorded."""


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """A Pod's admission, decided."""

    request: AdmissionRequest
    workload: Workload
    items: list[WhiteListItem]
    judged: list[Judged]
    decision: Decision
    source: Source
    now: datetime


class Gate:
    """Answers admissions."""

    def __init__(
        self, *, whitelist: Whitelist, release_labels: tuple[str, ...], judge: Judge, outbox: Outbox
    ) -> None:
        self._whitelist = whitelist
        self._release_labels = release_labels
        self._judge = judge
        self._outbox = outbox

    async def review(
        self, request: AdmissionRequest, deadline: Deadline, started: float, trace: str
    ) -> Answer:
        """The answer to one request. Raises `BadReview`."""
        workload = extract(request)
        if workload is None or not workload.images or workload.is_being_deleted:
            return Answer(allow(request.uid, [], {}), Action.ALLOWED, Source.MEMORY)
        release = release_of(workload, self._release_labels)
        items = self._whitelist.covering(release, workload.namespace, datetime.now(UTC))
        patience = _patience(request, workload, deadline, started)
        judged, source = await self._judge.judge(workload, items, patience, trace)
        now, decision = datetime.now(UTC), decide(judged)
        if not workload.is_pod:
            warnings = answer.forecast(workload, decision, judged, now)
            return Answer(allow(request.uid, warnings, {}), Action.ALLOWED, source)
        case = _Case(
            request=request,
            workload=workload,
            items=items,
            judged=judged,
            decision=decision,
            source=source,
            now=now,
        )
        response = _reply(case)
        if not request.dry_run:
            message = response.status.message if response.status else ""
            event, payload = decided(
                request, workload, release, decision=decision, judged=judged, message=message, now=now
            )
            outgoing = Outgoing(event.id, decision_subject(event.namespace), trace, payload)
            if not await self._outbox.record(outgoing, patience.waiting.to_record):
                return Answer(_unrecorded(case), Action.REJECTED, source, is_unrecorded=True)
        return Answer(response, decision.action, source)


def _reply(case: _Case) -> AdmissionResponse:
    uid, decision, judged, now = case.request.uid, case.decision, case.judged, case.now
    annotations = answer.annotations(decision, judged, case.source, now)
    if decision.action is Action.ALLOWED:
        warnings = answer.warnings(decision, judged, _cluster_wide(case), now)
        return allow(uid, warnings, annotations)
    message = answer.refusal(case.workload, decision, judged, now)
    is_person = not _is_controller(case.request, case.workload)
    hint = decision.action is Action.DEFERRED and is_person
    retry_after = answer.retry_after(judged, now) if hint else 0
    return deny(uid, decision.code, message, annotations, retry_after=retry_after)


def _cluster_wide(case: _Case) -> list[str]:
    """Items that were used and count in every namespace."""
    if not case.items:
        return []
    used = {each.whitelist_item for each in case.judged}
    return [
        item.metadata.name for item in case.items if not item.spec.namespaces and item.metadata.name in used
    ]


def _unrecorded(case: _Case) -> AdmissionResponse:
    """Whatever was decided: what nobody has a record of has not been said."""
    hint = 0 if _is_controller(case.request, case.workload) else RETRY_UNRECORDED
    return deny(case.request.uid, 503, UNRECORDED, {}, retry_after=hint)


def _patience(request: AdmissionRequest, workload: Workload, deadline: Deadline, started: float) -> Patience:
    """How long this one may be kept: built-in controllers half a second, workloads not for verdicts at all."""
    short = deadline.capped(started, CONTROLLER_WAIT)
    if not workload.is_pod:
        return Patience(reading=short, waiting=Deadline(started))
    if _is_controller(request, workload):
        return Patience(reading=short, waiting=short)
    return Patience(reading=deadline, waiting=deadline)


def _is_controller(request: AdmissionRequest, workload: Workload) -> bool:
    """A built-in controller, by its name or by the Pod's controlling owner; forging it costs only the hint."""
    user = request.user_info.username
    return workload.owner is not None or user in _CONTROLLERS or user.startswith(_CONTROLLER_PREFIXES)
