"""The oracle against a world made up: what it must see, it sees; and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.oracle import (
    BY_THE_GATE,
    CREATED,
    FORBIDDEN,
    TOO_MANY,
    Admission,
    Held,
    Kind,
    Noted,
    Reckoning,
    Record,
    reckon,
)

REFUSED = f"admission webhook denied the request: {BY_THE_GATE} no"
UNAVAILABLE, BROKEN = 503, 500


def admission(kind: Kind, status: int, message: str = "", pod: str = "p") -> Admission:
    return Admission(pod=pod, kind=kind, at=0, took=0, status=status, message=message)


def held(*actions: str, is_there: bool = False, audits: tuple[str, ...] = (), pod: str = "p") -> Held:
    return Held(
        pods=[pod] if is_there else [],
        records=[
            Record(id=f"{pod}-{number}", pod=pod, action=action) for number, action in enumerate(actions)
        ],
        audits=[Noted(pod=pod, decision=decision) for decision in audits],
    )


GOOD_AND_IN = admission(Kind.GOOD, CREATED)
BAD_AND_OUT = admission(Kind.BAD, FORBIDDEN, REFUSED)
DEFERRED = admission(Kind.NEW_GOOD, TOO_MANY, REFUSED)
UNHEARD = admission(Kind.GOOD, 0, "TimeoutError")


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        (GOOD_AND_IN, held("allowed", is_there=True, audits=("p-0",))),
        (BAD_AND_OUT, held("rejected", audits=("p-0",))),
        (DEFERRED, held("deferred")),
        (admission(Kind.GOOD, UNAVAILABLE, REFUSED), held("rejected", audits=("p-0",))),
        (UNHEARD, held()),
        (UNHEARD, held("allowed", audits=("p-0",))),
        (UNHEARD, held("allowed", is_there=True, audits=("p-0",))),
        (admission(Kind.BAD, BROKEN, "failed calling webhook"), held()),
        (GOOD_AND_IN, held("allowed", "allowed", is_there=True, audits=("p-1",))),
        (
            GOOD_AND_IN,
            Held(
                pods=["p", "other"],
                records=held("allowed").records,
                audits=[Noted(pod="p", decision="p-0"), Noted(pod="other", decision="x")],
            ),
        ),
    ],
)
def test_what_is_as_it_must_be(asked: Admission, there: Held) -> None:
    assert reckon([asked], there).is_clean


@pytest.mark.parametrize(
    ("asked", "there", "broken"),
    [
        (
            admission(Kind.BAD, CREATED),
            held("allowed", is_there=True, audits=("p-0",)),
            {"wrongly_allowed"},
        ),
        (admission(Kind.NEW_BAD, CREATED), held("allowed", audits=("p-0",)), {"wrongly_allowed"}),
        (
            admission(Kind.BAD, 0, "TimeoutError"),
            held("allowed", is_there=True, audits=("p-0",)),
            {"wrongly_allowed"},
        ),
        (
            admission(Kind.NEW_GOOD, FORBIDDEN, REFUSED),
            held("rejected", audits=("p-0",)),
            {"wrongly_refused"},
        ),
        (GOOD_AND_IN, held(is_there=True), {"decisions_lost", "audits_missing"}),
        (GOOD_AND_IN, held("deferred", is_there=True, audits=("p-0",)), {"decisions_lost"}),
        (BAD_AND_OUT, held("allowed", audits=("p-0",)), {"decisions_lost"}),
        (DEFERRED, held(), {"decisions_lost"}),
        (UNHEARD, held(is_there=True), {"decisions_lost", "audits_missing"}),
        (BAD_AND_OUT, held("rejected"), {"audits_missing"}),
        (BAD_AND_OUT, held("rejected", audits=("p-0", "p-0")), {"audits_double"}),
        (BAD_AND_OUT, held("rejected", audits=("q-0",)), {"audits_unfounded"}),
        (UNHEARD, held(audits=("p-0",)), {"audits_unfounded"}),
    ],
)
def test_what_is_broken_is_seen(asked: Admission, there: Held, broken: set[str]) -> None:
    reckoning = reckon([asked], there)
    assert {name for name in Reckoning.__struct_fields__ if getattr(reckoning, name)} == broken
    assert not reckoning.is_clean


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Admission], Held]:
    """Pods with any answer, and whatever came of them in a world that keeps its promise."""
    admissions, pods, records, audits = [], [], [], []
    for number, kind in enumerate(draw(st.lists(st.sampled_from(Kind), max_size=20))):
        name = f"{kind}-{number}"
        allowed = draw(st.booleans()) and not kind.is_bad
        action = "allowed" if allowed else draw(st.sampled_from(["rejected", "deferred"]))
        code = FORBIDDEN if kind.is_bad else UNAVAILABLE
        status = CREATED if allowed else {"rejected": code, "deferred": TOO_MANY}[action]
        heard = draw(st.booleans())
        admissions.append(
            admission(kind, status if heard else 0, REFUSED if heard and not allowed else "", name)
        )
        pods += [name] * allowed
        times = draw(st.integers(1, 3))
        records += [Record(id=f"id-{name}", pod=name, action=action)] * times
        audits += [Noted(pod=name, decision=f"id-{name}")] * (action != "deferred")
    shuffled = draw(st.permutations(records))
    return admissions, Held(pods=pods, records=shuffled, audits=draw(st.permutations(audits)))


@given(worlds())
def test_a_promise_kept_is_clean_whatever_was_heard_and_however_often_it_was_published(
    world: tuple[list[Admission], Held],
) -> None:
    admissions, there = world
    assert reckon(admissions, there).is_clean


@given(worlds(), st.data())
def test_a_record_that_was_answered_is_missed(
    world: tuple[list[Admission], Held], data: st.DataObject
) -> None:
    admissions, there = world
    answered = [each.pod for each in admissions if each.was_answered]
    if not answered:
        return
    lost = data.draw(st.sampled_from(answered))
    records = [each for each in there.records if each.pod != lost]
    without = Held(pods=there.pods, records=records, audits=there.audits)
    assert reckon(admissions, without).decisions_lost == (lost,)


@given(worlds(), st.data())
def test_a_bad_pod_that_is_there_is_seen_whatever_was_said(
    world: tuple[list[Admission], Held], data: st.DataObject
) -> None:
    admissions, there = world
    bad = [each.pod for each in admissions if each.kind.is_bad]
    if not bad:
        return
    let_in = data.draw(st.sampled_from(bad))
    with_it = Held(pods=[*there.pods, let_in], records=there.records, audits=there.audits)
    assert reckon(admissions, with_it).wrongly_allowed == (let_in,)


@given(worlds(), st.data())
def test_an_audit_too_few_and_one_too_many_are_seen(
    world: tuple[list[Admission], Held], data: st.DataObject
) -> None:
    admissions, there = world
    heard = {each.pod for each in admissions if each.was_answered}
    noted = [each for each in there.audits if each.pod in heard]
    if not noted:
        return
    one = data.draw(st.sampled_from(noted))
    fewer = [each for each in there.audits if each != one]
    without = Held(pods=there.pods, records=there.records, audits=fewer)
    twice = Held(pods=there.pods, records=there.records, audits=[*there.audits, one])
    assert reckon(admissions, without).audits_missing == (one.pod,)
    assert reckon(admissions, twice).audits_double == (one.pod,)
