"""What an Audit says: one decision as an Audit, and the one Audit of two.

`merge` commutes, is associative and idempotent: spec, labels, owner and state come from the later
decision by (`decidedAt`, id), and the transitions are the newest ten of the latest decision of each
outcome. So any replica may fold any decision, and neither order, duplicates nor replays change the
end. A decision that left the workload as it was (a refused update, a debug container, a Pod whose name
was taken) is a transition: it takes over the record only where nothing else is known.

The pure part of the audit-writer: values in, values out, no I/O.
"""

import hashlib
from datetime import timedelta

import msgspec

from services.audit_writer import limits
from services.audit_writer.limits import cut
from services.audit_writer.spec import ACTIONS, fitted_spec, sentence
from services.audit_writer.summary import DERIVED_LABELS, with_summary
from shared import crds
from shared.contracts import Action, AdmissionDecided
from shared.crds import (
    Audit,
    AuditMetadata,
    AuditState,
    AuditStatus,
    Condition,
    DecisionMark,
    OwnerReference,
    Transition,
)

_STATES = {Action.ALLOWED: AuditState.ADMITTED, Action.REJECTED: AuditState.REJECTED}
_OUR_LABELS = frozenset({crds.FAKE_RELEASE_LABEL, crds.RELEASE_LABEL, *DERIVED_LABELS})

LAST_SEEN_EVERY = timedelta(minutes=10)
"""How far `lastSeen` may stay behind where nothing else changes."""

_MAX_ID = 128
_HASH_LENGTH = 16


class Doubt(msgspec.Struct, frozen=True):
    """Why a claim of an owner did not check out."""

    reason: str
    """One word, for programs."""
    message: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Which Audit a decision belongs to, and who may own it."""

    name: str
    owner: OwnerReference | None = None
    """Read and found right; None: the Audit is unowned and has a retention."""
    doubt: Doubt | None = None
    is_final: bool = True
    """False: the owner may still appear."""
    is_attempt: bool = False
    """Another Pod has the name: this one was never stored, and what the Audit says of the other stands."""


def audit_of(decision: AdmissionDecided, standing: Standing) -> Audit:
    """The Audit that this decision alone would make. `decision` is no deferral."""
    spec, missing = fitted_spec(decision)
    transition = _transition(decision)
    attempt = standing.is_attempt or _is_attempt(decision)
    conditions = []
    if standing.doubt:
        conditions.append(_condition(crds.OWNER_UNVERIFIED, standing.doubt, decision))
    if missing:
        conditions.append(_condition(crds.TRUNCATED, Doubt("TooLarge", missing), decision))
    audit = Audit(
        metadata=AuditMetadata(
            name=standing.name,
            namespace=decision.namespace,
            labels={
                crds.FAKE_RELEASE_LABEL: str(decision.fake_release).lower(),
                crds.RELEASE_LABEL: crds.label_value(decision.release),
            },
            owner_references=(standing.owner,) if standing.owner else (),
        ),
        spec=spec,
        status=AuditStatus(
            state=_STATES[decision.action],
            last_seen=decision.decided_at,
            decision=DecisionMark(
                id=transition.id, at=decision.decided_at, attempt=attempt, judged_at=decision.decided_at
            ),
            transitions=(transition,),
            conditions=tuple(conditions),
        ),
    )
    return with_summary(audit)


def merge(one: Audit, other: Audit) -> Audit:
    """The Audit that has seen what both have seen. Both have one name."""
    winner = max(one, other, key=_rank)
    transitions = _newest(one.status.transitions + other.status.transitions)
    status = msgspec.structs.replace(
        winner.status, transitions=transitions, last_seen=max(one.status.last_seen, other.status.last_seen)
    )
    return msgspec.structs.replace(winner, status=status)


def succeed(existing: Audit, fresh: Audit) -> Audit:
    """`existing` with what `fresh`, just verified, adds."""
    return fresh if is_replaced(existing, fresh) else merge(existing, fresh)


def is_replaced(existing: Audit, fresh: Audit) -> bool:
    """Whether `fresh` is about another workload of the name.

    An owner that was found alive under its name proves that an Audit owned by another uid is about a
    workload that is gone: it is replaced, as if the collector had been faster.
    """
    old, new = owner_uids(existing.metadata), owner_uids(fresh.metadata)
    return bool(old and new and not old & new)


def is_worth_a_write(before: Audit, after: Audit) -> bool:
    """Whether `after` says something that `before` does not, or is so much later that it must be shown.

    When it was last seen, evaluated and decided, and by which of the decisions with one outcome, is written
    along with another change: thousands of Pods that meet the same answer are no news.
    """
    return after.status.last_seen - before.status.last_seen >= LAST_SEEN_EVERY or _said(before) != _said(
        after
    )


def _said(audit: Audit) -> tuple[object, ...]:
    status = audit.status
    images = tuple(msgspec.structs.replace(image, evaluated_at=None) for image in audit.spec.images)
    return (
        audit.metadata,
        msgspec.structs.replace(audit.spec, images=images),
        status.state,
        status.decision.attempt,
        {each.outcome for each in status.transitions},
        {(each.type, each.status, each.reason) for each in status.conditions},
    )


def written_part(audit: Audit) -> Audit:
    """`audit` as we write it: our labels and columns as they follow from it, nothing that others added."""
    metadata = AuditMetadata(
        name=audit.metadata.name,
        namespace=audit.metadata.namespace,
        labels={key: value for key, value in audit.metadata.labels.items() if key in _OUR_LABELS},
        owner_references=audit.metadata.owner_references,
    )
    return with_summary(msgspec.structs.replace(audit, metadata=metadata))


def unowned(audit: Audit) -> Audit:
    """`audit` without an owner, and marked so for the sweep."""
    return with_summary(
        msgspec.structs.replace(audit, metadata=msgspec.structs.replace(audit.metadata, owner_references=()))
    )


def lost_owners(before: AuditMetadata, after: AuditMetadata) -> frozenset[str]:
    """Uids that no longer own the Audit: the collector may still act on the owner it read before."""
    return owner_uids(before) - owner_uids(after)


def owner_uids(metadata: AuditMetadata) -> frozenset[str]:
    """Who owns the Audit."""
    return frozenset(reference.uid for reference in metadata.owner_references)


def outcome(decision: AdmissionDecided) -> str:
    """A hash of what was decided: the same for each Pod of a workload that met the same answer."""
    images = sorted(
        {
            (image.reference or image.image, image.outcome, image.digest, image.whitelist_item or "")
            for image in decision.images
        }
    )
    text = msgspec.json.encode([decision.action, images])
    return hashlib.sha256(text).hexdigest()[:_HASH_LENGTH]


def _rank(audit: Audit) -> tuple[bool, object, str, int, object, bytes]:
    """Later is greater. What was known later of the same decision (its owner, another verdict) breaks the tie."""
    mark = audit.status.decision
    content = msgspec.json.encode((audit.spec, audit.status.state, audit.status.conditions, audit.metadata))
    owners = len(audit.metadata.owner_references)
    return not mark.attempt, mark.at, mark.id, owners, mark.judged_at, content


def _newest(transitions: tuple[Transition, ...]) -> tuple[Transition, ...]:
    """The latest of each outcome, of these the newest ten, newest first.

    What is cut has ten later outcomes, and those only grow later: the cut commutes too.
    """
    latest: dict[str, Transition] = {}
    for each in sorted(transitions, key=_transition_rank):
        latest[each.outcome] = each
    newest = sorted(latest.values(), key=_transition_rank, reverse=True)
    return tuple(newest[: crds.MAX_TRANSITIONS])


def _transition_rank(transition: Transition) -> tuple[object, str, bytes]:
    return transition.at, transition.id, msgspec.json.encode(transition)


def _is_attempt(decision: AdmissionDecided) -> bool:
    """An update shows only what is new in a Pod: refused, or for a debug container, the workload is as before."""
    if decision.operation != "UPDATE":
        return False
    return decision.sub_resource != "" or decision.action is Action.REJECTED


def _transition(decision: AdmissionDecided) -> Transition:
    message = decision.message or "; ".join(dict.fromkeys(sentence(image) for image in decision.images))
    return Transition(
        id=_id(decision),
        at=decision.decided_at,
        outcome=outcome(decision),
        action=ACTIONS[decision.action],
        state=_STATES[decision.action],
        message=cut(message, limits.MAX_MESSAGE),
    )


def _id(decision: AdmissionDecided) -> str:
    """The decision's id; an API server's has 36 characters, a longer one is hashed."""
    if len(decision.id) <= _MAX_ID:
        return decision.id
    return hashlib.sha256(decision.id.encode()).hexdigest()


def _condition(kind: str, doubt: Doubt, decision: AdmissionDecided) -> Condition:
    return Condition(
        type=kind,
        status="True",
        reason=doubt.reason,
        message=cut(doubt.message, limits.MAX_TEXT),
        last_transition_time=decision.decided_at,
    )
