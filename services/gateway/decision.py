"""The decision: a pure function of what is known, by the table of DESIGN §5. No clock, no network.

Each image is judged by its own rule; the Pod gets the worst:
rejected (fail) > rejected (error) > rejected (pending) > deferred > allowed with warning > allowed.
Every "could not tell" is an outcome of its own, and which way it falls is the rule's word
(`on_pending`, `on_error`), never an accident.
"""

from datetime import datetime
from enum import IntEnum
from typing import assert_never

import msgspec

from shared.contracts import Action, Mode, Outcome
from shared.evidence import Ask, Evidence
from shared.pods import PodImage
from shared.policies import OnError, OnPending, Rule


class Step(IntEnum):
    """What one image leads to, from best to worst: the Pod gets the highest."""

    ALLOW = 0
    WARN = 1
    DEFER = 2
    REJECT_PENDING = 3
    REJECT_ERROR = 4
    REJECT_FAIL = 5


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One image, its rule and what is known of it."""

    image: PodImage
    reference: str
    """Normalised; empty where the Pod's text is no reference."""
    rule: Rule
    evidence: Evidence
    whitelist_item: str | None = None
    grace_until: datetime | None = None
    """It fails, but runs here already: let in until then."""
    bundle_id: str = ""
    """The bundle it is judged by, resolved; empty where that could not be had."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to answer, and what each image contributed."""

    action: Action
    code: int
    steps: tuple[Step, ...]
    """In the order of the images."""


_ANSWERS = {
    Step.ALLOW: (Action.ALLOWED, 200),
    Step.WARN: (Action.ALLOWED, 200),
    Step.DEFER: (Action.DEFERRED, 429),
    Step.REJECT_PENDING: (Action.REJECTED, 429),
    Step.REJECT_ERROR: (Action.REJECTED, 503),
    Step.REJECT_FAIL: (Action.REJECTED, 403),
}


def decide(images: list[Judged]) -> Decision:
    """The answer for a Pod with these images; a Pod without any is allowed."""
    steps = tuple(step(each) for each in images)
    action, code = _ANSWERS[max(steps, default=Step.ALLOW)]
    return Decision(action=action, code=code, steps=steps)


def step(judged: Judged) -> Step:
    """What one image leads to."""
    if judged.whitelist_item is not None or judged.rule.mode is Mode.OFF:
        return Step.ALLOW
    outcome = judged.evidence.outcome
    match judged.rule.mode:
        case Mode.ENFORCE:
            return _enforced(outcome, judged)
        case Mode.WARN:
            return Step.WARN if outcome in (Outcome.FAIL, Outcome.ERROR) else Step.ALLOW
        case Mode.AUDIT:
            return Step.ALLOW
    assert_never(judged.rule.mode)


def can_be_refused(rule: Rule, whitelist_item: str | None) -> bool:
    """Whether the answer can depend on the verdict: only then is it worth waiting for."""
    return rule.mode is Mode.ENFORCE and whitelist_item is None


def _enforced(outcome: Outcome, judged: Judged) -> Step:
    match outcome:
        case Outcome.PASS:
            return Step.WARN if judged.evidence.is_stale_pass else Step.ALLOW
        case Outcome.FAIL:
            return Step.REJECT_FAIL if judged.grace_until is None else Step.WARN
        case Outcome.PENDING:
            return _PENDING[judged.rule.on_pending]
        case Outcome.ERROR | Outcome.NOT_ASKED:
            # Not asked although it is enforced: whatever led there, it is no pass.
            return Step.WARN if judged.rule.on_error is OnError.ALLOW else Step.REJECT_ERROR
    assert_never(outcome)


_PENDING = {
    OnPending.RETRY: Step.DEFER,
    OnPending.ALLOW: Step.WARN,
    OnPending.DENY: Step.REJECT_PENDING,
}

NOT_ASKED = Evidence(outcome=Outcome.NOT_ASKED, ask=Ask.NO)
"""Mode off: nothing was asked."""
