"""What an Audit remembers of flips: a transition each, of an image the latest of either direction.

From these follow the identity of the next flip and whether an image has turned since it was let in. The id is made
of the verdict's own last turn and of the turn before it, as the release's Audits have it: whoever finds a flip, and
however often, comes to the same id; and a policy that is switched there and back over verdicts that stand makes a
flip each time. Pure: values in, values out.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from services.audit_writer import limits
from services.audit_writer.limits import cut
from services.audit_writer.sights import Sight
from shared import crds
from shared.contracts import FlipCause, Reason, Result
from shared.crds import Audit, AuditImage, AuditState, Transition

FlipKey = tuple[str, Result]
"""A verdict's key and what it has turned to."""

_ID_LENGTH, _OUTCOME_LENGTH = 32, 16
_WHY = {
    FlipCause.FEED: "new findings",
    FlipCause.BUNDLE: "the bundle's content has changed",
    FlipCause.POLICY: "another policy or bundle judges it now",
    FlipCause.TAG: "the tag means another image now",
}


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a workload passes no longer, or again."""

    image: str
    """As written in the Pod."""
    sight: Sight
    cause: FlipCause
    new_reasons: tuple[Reason, ...]

    @property
    def key(self) -> FlipKey:
        """The same for all workloads that flip together."""
        return self.sight.judgement.key, self.sight.result


def event_id(namespace: str, release: str, flip: Flip, group: Iterable[Audit]) -> str:
    """The flip's id. `group`: the Audits of all workloads of the release, flipped already or not."""
    verdict = flip.sight.verdict
    other = Result.PASS if flip.sight.result is Result.FAIL else Result.FAIL
    before = [turn for audit in group if (turn := _latest(audit, flip.sight.judgement.reference, other))]
    since = (
        verdict.unchanged_since.isoformat() if verdict.unchanged_since else str(flip.sight.stored.revision)
    )
    last = max(before, key=lambda turn: (turn.at, turn.id)).id if before else ""
    return _hash(namespace, release, *flip.key, since, last)[:_ID_LENGTH]


def is_told(identity: str, group: Iterable[Audit]) -> bool:
    """Whether an Audit of the release bears the flip already: Audits are written after the event."""
    return any(turn.id == identity for audit in group for turn in audit.status.transitions)


def has_turned(audit: Audit, reference: str) -> bool:
    """Whether the image's latest flip was one to fail."""
    failed, passed = _latest(audit, reference, Result.FAIL), _latest(audit, reference, Result.PASS)
    return failed is not None and (passed is None or failed.at > passed.at)


def with_turns(audit: Audit, turns: Iterable[Transition]) -> tuple[Transition, ...]:
    """The Audit's transitions and these: as in a merge the latest of each outcome, of these the newest."""
    latest = {each.outcome: each for each in sorted((*audit.status.transitions, *turns), key=_rank)}
    return tuple(sorted(latest.values(), key=_rank, reverse=True)[: crds.MAX_TRANSITIONS])


def flip_transition(
    flip: Flip, audit: Audit, ids: Mapping[FlipKey, str], state: AuditState, now: datetime
) -> Transition:
    """The flip in the Audit; its id is the event's."""
    return Transition(
        id=ids[flip.key],
        at=now,
        outcome=_outcome(flip.sight.judgement.reference, flip.sight.result),
        action=audit.spec.action,
        state=state,
        message=sentence(flip),
    )


def completion_transition(
    audit: Audit, completed: list[AuditImage], state: AuditState, now: datetime
) -> Transition:
    """What became known of images that were let in, or refused, without a verdict."""
    known = sorted({(image.image, image.verdict, image.digest) for image in completed})
    identity = _hash("completed", *(part for each in known for part in each))
    words = "; ".join(f"{image}: {verdict}" for image, verdict, _ in known)
    return Transition(
        id=identity[:_ID_LENGTH],
        at=now,
        outcome=identity[:_OUTCOME_LENGTH],
        action=audit.spec.action,
        state=state,
        message=cut(f"The verdict is there: {words}", limits.MAX_MESSAGE),
    )


def sentence(flip: Flip) -> str:
    """For people: what turned, why, and what is new."""
    is_pass = flip.sight.result is Result.PASS
    words = "passes its policy check again" if is_pass else "fails its policy check"
    text = f"Image {cut(flip.image, limits.MAX_NAME)} {words}: {_WHY[flip.cause]}"
    found = "; ".join(each.text for each in flip.new_reasons)
    if found:
        text = f"{text}; {'gone' if is_pass else 'new'}: {found}"
    return cut(text, limits.MAX_MESSAGE)


def _latest(audit: Audit, reference: str, result: Result) -> Transition | None:
    outcome = _outcome(reference, result)
    return next((each for each in audit.status.transitions if each.outcome == outcome), None)


def _outcome(reference: str, result: Result) -> str:
    return _hash("flip", reference, result.value)[:_OUTCOME_LENGTH]


def _rank(transition: Transition) -> tuple[datetime, str, bytes]:
    return transition.at, transition.id, msgspec.json.encode(transition)


def _hash(*parts: str) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
