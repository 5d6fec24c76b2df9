"""What must be so, known without asking the code under test: which image is bad is a matter of its name.

The load names its images; the simulator of Anchore finds the same in them because its catalogue says so. From there on
everything follows from the gate's promise: a bad image never gets in, what was answered is on record, and each record is
there once.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a Pod of the load is made of."""

    GOOD = "good"
    """A good image that was known before."""
    BAD = "bad"
    NEW_GOOD = "new-good"
    """A good image that nobody has seen."""
    NEW_BAD = "new-bad"

    @property
    def is_bad(self) -> bool:
        """Whether the policy refuses it."""
        return self in (Kind.BAD, Kind.NEW_BAD)

    @property
    def is_known(self) -> bool:
        """Whether it is decided without asking anybody."""
        return self in (Kind.GOOD, Kind.BAD)


CREATED, FORBIDDEN, TOO_MANY = 201, 403, 429

BY_THE_GATE = "moorgate:"
"""What every refusal of the gateways says; the API server's own has other words."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """One Pod of the load and what its creator was told."""

    pod: str
    kind: Kind
    at: float
    """Seconds of the run's clock when it was sent."""
    took: float
    """Seconds."""
    status: int
    """HTTP; 0: no answer came."""
    message: str = ""

    @property
    def was_answered(self) -> bool:
        """Whether a gateway has decided it for sure: it was let in, or refused in the gate's own words."""
        return self.status == CREATED or self.was_refused

    @property
    def was_refused(self) -> bool:
        """Whether the gate said no, or not yet."""
        return self.status != CREATED and BY_THE_GATE in self.message

    @property
    def is_final(self) -> bool:
        """Whether the answer is what the image deserves; everything else is the fault's doing, or has to wait."""
        if self.kind.is_bad:
            return self.status == FORBIDDEN and self.was_refused
        return self.status == CREATED

    @property
    def is_as_in_calm(self) -> bool:
        """Whether nothing seems to be wrong: a new image may be told to come back."""
        return self.is_final or (not self.kind.is_known and self.status == TOO_MANY)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as the stream holds it."""

    id: str
    pod: str
    action: str


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """An Audit: the Pod it is about and the decision it says to be taken from."""

    pod: str
    decision: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is there when everything has settled."""

    pods: Collection[str]
    """In the API server, also those whose creator heard of nothing."""
    records: Collection[Record]
    """In the stream of events."""
    audits: Collection[Noted]


class Reckoning(msgspec.Struct, frozen=True, kw_only=True):
    """What was broken of the promise: names of Pods, for whoever looks into it."""

    wrongly_allowed: tuple[str, ...] = ()
    """Bad ones that are there, or whose creator was told so."""
    wrongly_refused: tuple[str, ...] = ()
    """Good ones of which a gateway said that they fail."""
    decisions_lost: tuple[str, ...] = ()
    """Decided for sure, and not in the stream with what was decided."""
    audits_missing: tuple[str, ...] = ()
    """Decided for good, and without an Audit."""
    audits_double: tuple[str, ...] = ()
    """With two Audits."""
    audits_unfounded: tuple[str, ...] = ()
    """With an Audit of a decision that nobody took on them."""

    @property
    def is_clean(self) -> bool:
        """Whether the promise held."""
        return not any(getattr(self, field) for field in self.__struct_fields__)


def reckon(admissions: Iterable[Admission], held: Held) -> Reckoning:
    """Compare what was answered and what is there with what must be."""
    by_name = {each.pod: each for each in admissions}
    there = by_name.keys() & set(held.pods)
    decided = {
        name: _action(each, is_there=name in there)
        for name, each in by_name.items()
        if name in there or each.was_answered
    }
    actions, ids = _by_pod(held.records)
    audits = [each for each in held.audits if each.pod in by_name]
    audited = Counter(each.pod for each in audits)
    return Reckoning(
        wrongly_allowed=_sorted(
            name
            for name, each in by_name.items()
            if each.kind.is_bad and (name in there or each.status == CREATED)
        ),
        wrongly_refused=_sorted(
            name
            for name, each in by_name.items()
            if not each.kind.is_bad and each.status == FORBIDDEN and each.was_refused
        ),
        decisions_lost=_sorted(
            name for name, action in decided.items() if action not in actions.get(name, ())
        ),
        audits_missing=_sorted(
            name for name, action in decided.items() if action != "deferred" and not audited[name]
        ),
        audits_double=_sorted(name for name, count in audited.items() if count > 1),
        audits_unfounded=_sorted({each.pod for each in audits if each.decision not in ids.get(each.pod, ())}),
    )


def _action(admission: Admission, *, is_there: bool) -> str:
    if is_there or admission.status == CREATED:
        return "allowed"
    return "deferred" if admission.status == TOO_MANY else "rejected"


def _by_pod(records: Iterable[Record]) -> tuple[Mapping[str, set[str]], Mapping[str, set[str]]]:
    actions: dict[str, set[str]] = {}
    ids: dict[str, set[str]] = {}
    for each in records:
        actions.setdefault(each.pod, set()).add(each.action)
        ids.setdefault(each.pod, set()).add(each.id)
    return actions, ids


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
