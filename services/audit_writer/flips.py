"""What verdicts change in the Audits of what runs: flips, completed records, and evidence that is newer.

Level-triggered: an Audit is compared with the verdicts as they are, whatever led there. Doing it again changes
nothing, and what was missed is found by the next comparison. Pure: values in, values out, no I/O.

    recorded, and now        running, counts            whitelisted, or not running
    pass → fail, fail → pass flip: event, state         recorded (not running: left as it is)
    the same, not yet told   flip (the decision that    recorded
                             it came first)
    no verdict → fail        enforced and let in: flip; recorded
                             else recorded
    no verdict → pass        recorded                   recorded
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from services.audit_writer.limits import fitted
from services.audit_writer.sights import Sight, cause, is_news, new_reasons, rejudged
from services.audit_writer.spec import sentence_of
from services.audit_writer.turns import (
    Flip,
    FlipKey,
    completion_transition,
    flip_transition,
    has_turned,
    with_turns,
)
from services.audit_writer.verification import state_by_decision
from shared.contracts import Mode, Result
from shared.crds import Audit, AuditImage, AuditState, Transition

Sights = Mapping[str, Sight]
"""By the image as written in the Pod."""

JUDGED = frozenset(each.value for each in Result)
"""What is recorded of an image that has a verdict."""

_RAN = frozenset({AuditState.ADMITTED, AuditState.OBSERVED, AuditState.DEGRADED, AuditState.UNVERIFIED})


def flips_of(audit: Audit, sights: Sights) -> tuple[Flip, ...]:
    """The flips that the Audit does not know of; one for an image in several containers."""
    found: dict[FlipKey, Flip] = {}
    for image in audit.spec.images:
        sight = sights.get(image.image)
        if sight is not None and _is_flip(audit, image, sight):
            flip = Flip(
                image=image.image,
                sight=sight,
                cause=cause(image, sight),
                new_reasons=new_reasons(image, sight.verdict),
            )
            found.setdefault(flip.key, flip)
    return tuple(found.values())


def revised(audit: Audit, sights: Sights, ids: Mapping[FlipKey, str], now: datetime) -> Audit | None:
    """The Audit as the verdicts have it; None: it says so already, or has a flip that was not told of.

    `ids`: of the events of the flips.
    """
    flips = flips_of(audit, sights)
    if any(flip.key not in ids for flip in flips):
        return None
    images = tuple(_image(image, sights) for image in audit.spec.images)
    state = _state(audit, images, flips, sights)
    turns = [flip_transition(flip, audit, ids, state, now) for flip in flips]
    turns += _completions(audit, images, state, now)
    if images == audit.spec.images and state is audit.status.state and not turns:
        return None
    spec = msgspec.structs.replace(
        audit.spec, images=images, result=tuple(sentence_of(image) for image in images)
    )
    status = msgspec.structs.replace(
        audit.status,
        state=state,
        transitions=with_turns(audit, turns) if turns else audit.status.transitions,
        decision=msgspec.structs.replace(audit.status.decision, judged_at=now),
    )
    return msgspec.structs.replace(audit, spec=fitted(spec), status=status)


def is_outdated(audit: Audit, sights: Sights) -> bool:
    """Whether there is anything to do about the Audit."""
    return bool(flips_of(audit, sights)) or revised(audit, sights, {}, audit.status.last_seen) is not None


def would_flip(audit: Audit, sights: Sights) -> bool:
    """Whether a verdict that completes the record may be a flip, if what was let in runs."""
    return _was_let_in(audit) and any(
        sight.result is Result.FAIL and image.verdict not in JUDGED and not image.whitelist_item
        for image in audit.spec.images
        if (sight := sights.get(image.image))
    )


def _is_flip(audit: Audit, image: AuditImage, sight: Sight) -> bool:
    if not sight.is_running or image.whitelist_item or sight.whitelist_item:
        return False
    if image.verdict == sight.result.value:
        is_told_to_fail = has_turned(audit, sight.judgement.reference)
        return is_told_to_fail if sight.result is Result.PASS else _was_overtaken(audit, sight)
    if image.verdict in JUDGED:
        return True
    is_enforced = sight.judgement.mode is Mode.ENFORCE
    return sight.result is Result.FAIL and is_enforced and _was_let_in(audit)


def _was_let_in(audit: Audit) -> bool:
    return audit.spec.action == "allowed" and state_by_decision(audit) is not AuditState.OBSERVED


def _was_overtaken(audit: Audit, sight: Sight) -> bool:
    """Whether a decision recorded the turn first: something ran before it, and nobody was told."""
    since, mark = sight.verdict.unchanged_since, audit.status.decision
    if since is None or mark.judged_at != mark.at or has_turned(audit, sight.judgement.reference):
        return False
    return any(each.state in _RAN and each.at < since for each in audit.status.transitions)


def _image(image: AuditImage, sights: Sights) -> AuditImage:
    """The image with what is news of it. Of what does not run only what no verdict was known of is completed."""
    sight = sights.get(image.image)
    if sight is None or (not sight.is_running and image.verdict in JUDGED):
        return image
    after = rejudged(image, sight)
    return after if is_news(image, after) else image


def _state(
    audit: Audit, images: tuple[AuditImage, ...], flips: tuple[Flip, ...], sights: Sights
) -> AuditState:
    """`degraded` while an image fails that did not when it was let in. A refusal that came later stands."""
    before = audit.status.state
    is_running = any(sight.is_running for sight in sights.values())
    if before is AuditState.REJECTED or not is_running:
        return before
    failing = {each.image for each in flips if each.sight.result is Result.FAIL}
    for image in images:
        sight = sights.get(image.image)
        if image.verdict != Result.FAIL.value or image.whitelist_item or (sight and sight.whitelist_item):
            continue
        has_failed = sight is not None and has_turned(audit, sight.judgement.reference)
        if image.image in failing or has_failed or before is AuditState.DEGRADED:
            return AuditState.DEGRADED
    return state_by_decision(audit) if before is AuditState.DEGRADED else before


def _completions(
    audit: Audit, images: tuple[AuditImage, ...], state: AuditState, now: datetime
) -> list[Transition]:
    completed = [
        after
        for before, after in zip(audit.spec.images, images, strict=True)
        if before.verdict not in JUDGED and after.verdict in JUDGED
    ]
    return [completion_transition(audit, completed, state, now)] if completed else []
