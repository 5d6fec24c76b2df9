"""Does what runs match what was judged? A digest that is neither the judged one nor its list's makes `unverified`.

A tag can come to mean another image between verdict and pull, and a node may have an old one: the kubelet's
`imageID` tells. For an image of several platforms a kubelet reports the digest of the list or of the platform's
manifest; both are right. An image without a judged digest cannot be compared. `rejected` and `degraded` say
more and stay. The comparison is with the present: an Audit whose decision is later than the inventory waits for
the next, and what is right again goes back to what its decision made it. Pure: values in, values out.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from services.audit_writer import limits
from services.audit_writer.limits import cut
from services.audit_writer.running import Workload
from services.audit_writer.turns import with_turns
from shared.contracts import ContainerKind
from shared.crds import Audit, AuditState, Transition

COMPARED = frozenset({AuditState.ADMITTED, AuditState.OBSERVED, AuditState.UNVERIFIED})
"""States in which what runs is compared with what was judged."""

_ID_LENGTH = 32


class JudgedImage(Protocol):
    """An image of an Audit, as far as it is compared."""

    @property
    def container(self) -> str: ...  # noqa: D102

    @property
    def container_kind(self) -> ContainerKind: ...  # noqa: D102

    @property
    def image(self) -> str: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def list_digest(self) -> str: ...  # noqa: D102


class Stranger(NamedTuple):
    """A digest that runs and was not judged."""

    container: str
    image: str
    running: str
    judged: str


class Comparison(NamedTuple):
    """What runs beside what was judged."""

    strangers: tuple[Stranger, ...]
    is_known: bool
    """Anything could be compared at all."""

    @property
    def identity(self) -> str:
        """The same for the same strangers."""
        return hashlib.sha256(msgspec.json.encode(self.strangers)).hexdigest()[:_ID_LENGTH]


def compare(images: Iterable[JudgedImage], workload: Workload) -> Comparison:
    """Every running digest of an image with a judged one; images are told by container and by what the Pod writes."""
    running = {(each.container_kind, each.container, each.image): each.digests for each in workload.images}
    strangers: set[Stranger] = set()
    is_known = False
    for image in images:
        digests = running.get((image.container_kind, image.container, image.image), frozenset())
        if not image.digest or not digests:
            continue
        is_known = True
        for digest in digests - {image.digest, image.list_digest}:
            strangers.add(Stranger(image.container, image.image, digest, image.digest))
    return Comparison(tuple(sorted(strangers)), is_known)


def verified(audit: Audit, workload: Workload, taken_at: datetime, now: datetime) -> Audit | None:
    """The Audit as an inventory begun at `taken_at` has it; None: there is nothing to change."""
    status = audit.status
    if status.state not in COMPARED or status.decision.at >= taken_at:
        return None
    found = compare(audit.spec.images, workload)
    is_told = any(each.id == found.identity for each in status.transitions)
    if not is_news(found, status.state, is_told=is_told):
        return None
    state = AuditState.UNVERIFIED if found.strangers else state_by_decision(audit)
    turn = Transition(
        id=found.identity,
        at=now,
        outcome=AuditState.UNVERIFIED.value if found.strangers else "verified",
        action=audit.spec.action,
        state=state,
        message=_message(found),
    )
    return msgspec.structs.replace(
        audit,
        status=msgspec.structs.replace(
            status,
            state=state,
            transitions=with_turns(audit, (turn,)),
            decision=msgspec.structs.replace(status.decision, judged_at=now),
        ),
    )


def is_news(found: Comparison, state: AuditState, *, is_told: bool) -> bool:
    """Whether an Audit in this state says something else. `is_told`: it names these very strangers."""
    if not found.is_known:
        return False
    is_unverified = state is AuditState.UNVERIFIED
    return not (is_unverified and is_told) if found.strangers else is_unverified


def state_by_decision(audit: Audit) -> AuditState:
    """What became of the workload by the decision itself."""
    mark = audit.status.decision
    by_decision = (each.state for each in audit.status.transitions if each.id == mark.id)
    return next(by_decision, AuditState.ADMITTED)


def _message(found: Comparison) -> str:
    if not found.strangers:
        return "What runs is what was judged"
    words = (
        f"{each.container} ({cut(each.image, limits.MAX_NAME)}) runs {each.running}, judged was {each.judged}"
        for each in found.strangers
    )
    return cut("; ".join(words), limits.MAX_MESSAGE)
