"""The fold commutes, is associative and idempotent, and stays small: for any decisions whatever."""

from collections.abc import Sequence
from datetime import timedelta
from functools import reduce

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.audit_writer.audit import Doubt, Standing, audit_of, merge, outcome
from services.audit_writer.limits import stored_size
from shared.contracts import MAX_MESSAGE_BYTES, Action, AdmissionDecided, ImageDecision, Outcome, Reason
from shared.crds import Audit, OwnerReference
from tests.audit_writer.decisions import START, decision, image

NAME = "replicaset-web"
OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web", uid="owner-uid")
STANDINGS = (
    Standing(name=NAME, owner=OWNER),
    Standing(name=NAME),
    Standing(name=NAME, doubt=Doubt("OwnerNotFound", "there is none")),
    Standing(name=NAME, is_attempt=True),
)
MAX_AUDIT_BYTES = 64 * 1024
OPERATIONS = st.sampled_from([("CREATE", ""), ("UPDATE", ""), ("UPDATE", "ephemeralcontainers")])


@st.composite
def decided(draw: st.DrawFn) -> AdmissionDecided:
    """Few ids, moments and outcomes, so that ties, duplicates and returns of an outcome are common."""
    number = draw(st.integers(0, 40))
    operation, sub_resource = draw(OPERATIONS)
    judged = image(f"app:{draw(st.integers(0, 14))}", draw(st.sampled_from(list(Outcome))))
    return decision(
        number,
        after=draw(st.integers(0, 20)),
        operation=operation,
        sub_resource=sub_resource,
        action=draw(st.sampled_from([Action.ALLOWED, Action.REJECTED])),
        images=(judged,),
    )


AUDITS = st.lists(st.builds(audit_of, decided(), st.sampled_from(STANDINGS)), min_size=1, max_size=40)


def fold(audits: Sequence[Audit]) -> Audit:
    return reduce(merge, audits)


@given(AUDITS, st.data())
@settings(max_examples=200, deadline=None)
def test_order_duplicates_and_splits_change_nothing(audits: list[Audit], data: st.DataObject) -> None:
    expected = fold(audits)
    again = audits + data.draw(st.lists(st.sampled_from(audits), max_size=20))
    again = data.draw(st.permutations(again))
    assert fold(again) == expected
    middle = data.draw(st.integers(0, len(again)))
    parts = [fold(part) for part in (again[:middle], again[middle:]) if part]
    assert fold(parts) == expected
    assert fold(parts[::-1]) == expected


@given(AUDITS, AUDITS, AUDITS)
@settings(max_examples=100, deadline=None)
def test_merging_is_a_semilattice(one: list[Audit], two: list[Audit], three: list[Audit]) -> None:
    a, b, c = fold(one), fold(two), fold(three)
    assert merge(a, a) == a
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(st.lists(decided(), min_size=1, max_size=40, unique_by=lambda each: each.id))
@settings(max_examples=200, deadline=None)
def test_transitions_are_the_latest_of_each_outcome_the_newest_ten(decisions: list[AdmissionDecided]) -> None:
    latest: dict[str, AdmissionDecided] = {}
    for each in sorted(decisions, key=lambda each: (each.decided_at, each.id)):
        latest[outcome(each)] = each
    newest = sorted(latest.values(), key=lambda each: (each.decided_at, each.id), reverse=True)[:10]
    folded = fold([audit_of(each, STANDINGS[0]) for each in decisions])
    assert [each.id for each in folded.status.transitions] == [each.id for each in newest]


TEXTS = st.text(max_size=40).flatmap(lambda text: st.sampled_from([text, text * 50]))
REASONS = st.builds(Reason, gate=TEXTS, trigger=TEXTS, action=st.just("stop"), text=TEXTS, trigger_id=TEXTS)
IMAGES = st.builds(
    image,
    TEXTS,
    st.sampled_from(list(Outcome)),
    container=TEXTS,
    bundle_id=TEXTS,
    policy=st.none() | TEXTS,
    digest=TEXTS,
    error_message=TEXTS,
    reasons=st.lists(REASONS, max_size=3).map(tuple),
)


@given(st.lists(IMAGES, min_size=1, max_size=4), st.integers(1, 100), TEXTS, TEXTS, TEXTS)
@settings(max_examples=40, deadline=None)
def test_an_audit_is_never_too_large(
    images: list[ImageDecision], times: int, release: str, user: str, message: str
) -> None:
    huge = [
        decision(
            number,
            images=(image(f"odd:{number}"), *images * times),
            release=release,
            user=user,
            message=message,
            decided_at=START + timedelta(seconds=number),
        )
        for number in range(11)
    ]
    assume(all(len(msgspec.json.encode(each)) <= MAX_MESSAGE_BYTES for each in huge))
    whole = fold([audit_of(each, STANDINGS[2]) for each in huge])
    assert len(whole.status.transitions) == 10
    assert stored_size(whole) < MAX_AUDIT_BYTES - 4096  # what the API server adds: managed fields, a uid
    assert len(whole.spec.image) == len(whole.spec.result) == len(whole.spec.images) > 0
