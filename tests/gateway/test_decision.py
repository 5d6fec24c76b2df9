"""The table of decisions, cell by cell, and what holds for any Pod whatever."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.decision import NOT_ASKED, Decision, Judged, Step, can_be_refused, decide, step
from shared.contracts import Action, Mode, Outcome
from shared.evidence import Ask, Evidence
from shared.policies import OnError, OnPending, Rule
from tests.support.builders import START, pod_image, rule

ALLOW = (Action.ALLOWED, 200, Step.ALLOW)
WARN = (Action.ALLOWED, 200, Step.WARN)
DEFER = (Action.DEFERRED, 429, Step.DEFER)
REJECT_PENDING = (Action.REJECTED, 429, Step.REJECT_PENDING)
REJECT_ERROR = (Action.REJECTED, 503, Step.REJECT_ERROR)
REJECT_FAIL = (Action.REJECTED, 403, Step.REJECT_FAIL)

PASS, FAIL, PENDING, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.PENDING, Outcome.ERROR
ENFORCED: list[tuple[Outcome, dict[str, Any], tuple[Action, int, Step]]] = [
    (PASS, {}, ALLOW),
    (FAIL, {}, REJECT_FAIL),
    (PENDING, {"on_pending": OnPending.RETRY}, DEFER),
    (PENDING, {"on_pending": OnPending.ALLOW}, WARN),
    (PENDING, {"on_pending": OnPending.DENY}, REJECT_PENDING),
    (ERROR, {"on_error": OnError.DENY}, REJECT_ERROR),
    (ERROR, {"on_error": OnError.ALLOW}, WARN),
]
TABLE: list[tuple[Mode, Outcome, dict[str, Any], tuple[Action, int, Step]]] = [
    *[(Mode.ENFORCE, outcome, falls, expected) for outcome, falls, expected in ENFORCED],
    *[(Mode.WARN, PASS, {}, ALLOW), (Mode.WARN, FAIL, {}, WARN)],
    *[(Mode.WARN, PENDING, {}, ALLOW), (Mode.WARN, ERROR, {}, WARN)],
    *[(Mode.AUDIT, outcome, {}, ALLOW) for outcome in (PASS, FAIL, PENDING, ERROR)],
    *[(Mode.OFF, outcome, {}, ALLOW) for outcome in (*Outcome,)],
]


def judged(
    outcome: Outcome,
    mode: Mode = Mode.ENFORCE,
    item: str | None = None,
    *,
    is_stale_pass: bool = False,
    **falls: Any,
) -> Judged:
    return Judged(
        image=pod_image(),
        reference="docker.io/library/nginx:1.27",
        rule=rule(mode=mode, **falls),
        evidence=Evidence(outcome=outcome, is_stale_pass=is_stale_pass),
        whitelist_item=item,
    )


def seen(decision: Decision) -> tuple[Action, int, Step]:
    [only] = decision.steps
    return decision.action, decision.code, only


@pytest.mark.parametrize(("mode", "outcome", "falls", "expected"), TABLE)
def test_each_cell_of_the_table(
    mode: Mode, outcome: Outcome, falls: dict[str, Any], expected: tuple[Action, int, Step]
) -> None:
    assert seen(decide([judged(outcome, mode, **falls)])) == expected


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("on_pending", OnPending)
def test_a_whitelisted_image_is_allowed_whatever_is_known(
    mode: Mode, outcome: Outcome, on_pending: OnPending
) -> None:
    whitelisted = judged(outcome, mode, "web", on_pending=on_pending, on_error=OnError.DENY)
    assert seen(decide([whitelisted])) == ALLOW


def test_a_pass_past_its_time_is_allowed_with_a_warning() -> None:
    assert seen(decide([judged(PASS, is_stale_pass=True)])) == WARN
    assert seen(decide([judged(PASS, item="web", is_stale_pass=True)])) == ALLOW


def test_an_image_that_should_have_been_asked_about_and_was_not_falls_like_an_error() -> None:
    assert seen(decide([judged(Outcome.NOT_ASKED)])) == REJECT_ERROR
    assert seen(decide([judged(Outcome.NOT_ASKED, on_error=OnError.ALLOW)])) == WARN


def test_an_image_nobody_asks_about_is_no_pass_and_is_not_asked_for() -> None:
    assert Evidence(outcome=Outcome.NOT_ASKED, ask=Ask.NO) == NOT_ASKED


def test_nothing_is_made_up_of_an_image_of_which_nothing_is_known() -> None:
    bare = judged(PENDING)
    assert (bare.whitelist_item, bare.grace_until, bare.bundle_id) == (None, None, "")


@pytest.mark.parametrize("on_error", OnError)
def test_a_failing_image_within_its_grace_is_allowed_with_a_warning(on_error: OnError) -> None:
    within = msgspec.structs.replace(judged(FAIL, on_error=on_error), grace_until=START)
    assert seen(decide([within])) == WARN
    beside = decide([within, judged(FAIL)])
    assert (beside.code, beside.steps) == (403, (Step.WARN, Step.REJECT_FAIL))


@pytest.mark.parametrize("outcome", [PENDING, ERROR, Outcome.NOT_ASKED])
def test_a_grace_is_about_a_verdict_and_not_about_its_absence(outcome: Outcome) -> None:
    graced = msgspec.structs.replace(judged(outcome), grace_until=START)
    assert seen(decide([graced])) == seen(decide([judged(outcome)]))


def test_a_pod_without_images_is_allowed() -> None:
    assert decide([]) == Decision(action=Action.ALLOWED, code=200, steps=())


def test_the_pod_gets_the_worst_and_each_image_keeps_its_own_step() -> None:
    by_step = [
        judged(PASS),
        judged(FAIL, Mode.WARN),
        judged(PENDING),
        judged(PENDING, on_pending=OnPending.DENY),
        judged(ERROR),
        judged(FAIL),
    ]
    codes = [(Action.ALLOWED, 200), (Action.ALLOWED, 200), (Action.DEFERRED, 429)]
    codes += [(Action.REJECTED, 429), (Action.REJECTED, 503), (Action.REJECTED, 403)]
    for count in range(1, 7):
        decision = decide(by_step[:count])
        assert (decision.action, decision.code) == codes[count - 1]
        assert list(decision.steps) == list(Step)[:count]


@pytest.mark.parametrize(
    ("mode", "item", "expected"),
    [(mode, item, mode is Mode.ENFORCE and item is None) for mode in Mode for item in (None, "web")],
)
def test_only_what_can_be_refused_is_worth_a_wait(mode: Mode, item: str | None, *, expected: bool) -> None:
    assert can_be_refused(rule(mode=mode), item) is expected
    worst = max(step(judged(outcome, mode, item)) for outcome in Outcome)
    assert (worst > Step.WARN) is expected, "what is not waited for must not be refused either"


RULES = st.builds(
    Rule,
    mode=st.sampled_from(Mode),
    on_pending=st.sampled_from(OnPending),
    on_error=st.sampled_from(OnError),
)
IMAGES = st.builds(
    Judged,
    image=st.just(pod_image()),
    reference=st.just("docker.io/library/nginx:1.27"),
    rule=RULES,
    evidence=st.builds(Evidence, outcome=st.sampled_from(Outcome), is_stale_pass=st.booleans()),
    whitelist_item=st.none() | st.just("web"),
)
IN_GRACE = IMAGES.map(lambda image: msgspec.structs.replace(image, grace_until=START))
PODS = st.lists(IMAGES | IN_GRACE, max_size=5)


def severity(decision: Decision) -> Step:
    return max(decision.steps, default=Step.ALLOW)


def with_outcome(image: Judged, outcome: Outcome) -> Judged:
    return msgspec.structs.replace(image, evidence=Evidence(outcome=outcome))


@given(PODS, IMAGES)
@settings(deadline=None)
def test_a_failing_image_never_turns_a_refusal_into_an_allow(pod: list[Judged], image: Judged) -> None:
    for better in (PASS, PENDING, ERROR):
        before = decide([*pod, with_outcome(image, better)])
        after = decide([*pod, with_outcome(image, FAIL)])
        if before.action is Action.REJECTED:
            assert after.action is Action.REJECTED
        if before.action is Action.DEFERRED:
            assert after.action is not Action.ALLOWED
        if image.rule.mode is not Mode.WARN or better is PASS:
            assert severity(after) >= severity(before)


@given(PODS, IMAGES)
@settings(deadline=None)
def test_a_pass_is_never_worse_than_anything_else(pod: list[Judged], image: Judged) -> None:
    best = decide([*pod, with_outcome(image, PASS)])
    for worse in (FAIL, PENDING, ERROR):
        assert severity(decide([*pod, with_outcome(image, worse)])) >= severity(best)


@given(PODS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_images_does_not_matter(pod: list[Judged], chance: "object") -> None:
    shuffled = list(pod)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    one, other = decide(pod), decide(shuffled)
    assert (one.action, one.code) == (other.action, other.code)
    assert sorted(one.steps) == sorted(other.steps)


@given(PODS, IMAGES)
@settings(deadline=None)
def test_one_more_image_never_improves_the_answer(pod: list[Judged], image: Judged) -> None:
    before, after = decide(pod), decide([*pod, image])
    assert severity(after) >= severity(before)
    assert after.steps[:-1] == before.steps
    if before.action is Action.REJECTED:
        assert after.action is Action.REJECTED
