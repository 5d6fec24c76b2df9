"""The Audit of what runs without a decision: it ran before Moorgate, or while its webhook was off.

It says what is known, no more: these images run, by the Pods' own word, and nobody was asked. Its mark is dated
before every decision, so that any real one replaces it, whatever the order in which they arrive: whoever
observes a workload whose decision is still on its way does no harm. Only what left the workload as it was (a
refused update, a debug container) does not replace it: that says nothing of what runs. Pure: no I/O.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.running import RunningImage, Workload
from services.audit_writer.summary import with_summary
from shared.contracts import Action, AdmissionDecided, ErrorClass, ImageDecision, Mode, Outcome
from shared.crds import NEVER, Audit, AuditState, DecisionMark

OBSERVED = "observed"
"""Id and outcome of the transition, and id of the mark: one, whoever observes and however often."""

PATIENCE = timedelta(seconds=60)
"""Age of a workload's oldest Pod from which an Audit is expected to be there: its decision may be on its way."""

MESSAGE = "Found running, with no decision on record"

ModeOf = Callable[[RunningImage], Mode]
"""The mode of the policy in force for an image of the workload."""


def is_due(workload: Workload, now: datetime) -> bool:
    """Whether a workload without an Audit has none by now because there was no decision."""
    return workload.since is not None and now - workload.since >= PATIENCE


def as_if_decided(workload: Workload, mode_of: ModeOf, now: datetime) -> AdmissionDecided:
    """The workload in the words of a decision: nothing was judged, and under mode `off` nothing will be."""
    return AdmissionDecided(
        id=OBSERVED,
        decided_at=now,
        namespace=workload.namespace,
        pod_name=workload.pod,
        pod_uid=workload.owner.uid if workload.stands_alone else "",
        operation="CREATE",
        action=Action.ALLOWED,
        code=200,
        release=workload.release,
        fake_release=workload.fake_release,
        user="",
        images=tuple(_image(image, mode_of(image)) for image in workload.images),
        owner=None if workload.stands_alone else workload.owner,
        message=MESSAGE,
    )


def observed_audit(decision: AdmissionDecided, standing: Standing) -> Audit:
    """The Audit of a workload that nobody decided about. `decision`: as `as_if_decided` has it."""
    audit = audit_of(decision, standing)
    [transition] = audit.status.transitions
    seen = msgspec.structs.replace(transition, outcome=OBSERVED, state=AuditState.OBSERVED)
    status = msgspec.structs.replace(
        audit.status,
        state=AuditState.OBSERVED,
        decision=DecisionMark(id=OBSERVED, at=NEVER, judged_at=NEVER),
        transitions=(seen,),
    )
    return with_summary(msgspec.structs.replace(audit, status=status))


def _image(image: RunningImage, mode: Mode) -> ImageDecision:
    outcome, error = Outcome.PENDING, None
    if mode is Mode.OFF:
        outcome = Outcome.NOT_ASKED
    elif not image.reference:
        outcome, error = Outcome.ERROR, ErrorClass.BAD_REFERENCE
    return ImageDecision(
        container=image.container,
        container_kind=image.container_kind,
        image=image.image,
        reference=image.reference,
        outcome=outcome,
        mode=mode,
        error=error,
    )
