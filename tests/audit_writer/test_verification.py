"""Which running digests are strangers, and what that makes of an Audit: a table, and what holds for all."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit_writer.audit import Standing, audit_of, merge
from services.audit_writer.running import RunningImage, Workload
from services.audit_writer.verification import compare, verified
from shared.contracts import ContainerKind, Outcome
from shared.crds import MAX_TRANSITIONS, Audit, AuditState
from tests.audit_writer.decisions import START, claim, decision, image, rejected

NAME = "replicaset-web-5cd466fccb"
JUDGED, LIST, OTHER, THIRD = (f"sha256:{letter * 64}" for letter in "abcd")
TAKEN = START + timedelta(hours=1)


def workload(*digests: str, container: str = "web", written: str = "nginx:1.27", **more: object) -> Workload:
    running = RunningImage(
        container=container,
        container_kind=more.get("kind", ContainerKind.CONTAINER),  # type: ignore[arg-type]  # each test's own
        image=written,
        reference=f"docker.io/library/{written}",
        digests=frozenset(digests),
    )
    return Workload(
        namespace="shop",
        audit=NAME,
        owner=claim(),
        release="web",
        release_matched="web",
        fake_release=False,
        pods=1,
        images=(running,),
    )


def audit(
    state: AuditState = AuditState.ADMITTED, outcome: Outcome = Outcome.PASS, **changes: object
) -> Audit:
    judged = msgspec.structs.replace(image(outcome=outcome, digest=JUDGED, list_digest=LIST), **changes)
    made = audit_of(decision(images=(judged,)), Standing(name=NAME))
    return msgspec.structs.replace(made, status=msgspec.structs.replace(made.status, state=state))


def state_after(found: Audit, what: Workload) -> AuditState:
    changed = verified(found, what, TAKEN, TAKEN)
    return (changed or found).status.state


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        ((JUDGED,), AuditState.ADMITTED),
        ((LIST,), AuditState.ADMITTED),
        ((JUDGED, LIST), AuditState.ADMITTED),
        ((OTHER,), AuditState.UNVERIFIED),
        ((JUDGED, OTHER), AuditState.UNVERIFIED),
        ((), AuditState.ADMITTED),
    ],
)
def test_the_judged_digest_and_its_lists_are_right(digests: tuple[str, ...], expected: AuditState) -> None:
    assert state_after(audit(), workload(*digests)) is expected


@pytest.mark.parametrize(
    "what",
    [
        workload(OTHER, container="side"),
        workload(OTHER, written="nginx:1.28"),
        workload(OTHER, kind=ContainerKind.INIT),
    ],
)
def test_only_the_same_image_of_the_same_container_is_compared(what: Workload) -> None:
    assert verified(audit(), what, TAKEN, TAKEN) is None


@pytest.mark.parametrize("outcome", [Outcome.PENDING, Outcome.ERROR, Outcome.NOT_ASKED])
def test_what_was_not_judged_cannot_be_compared(outcome: Outcome) -> None:
    unjudged = audit(outcome=outcome, digest="", list_digest="")
    assert verified(unjudged, workload(OTHER), TAKEN, TAKEN) is None


def test_an_empty_list_digest_is_no_digest() -> None:
    assert compare(audit(list_digest="").spec.images, workload(OTHER)).strangers


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (AuditState.ADMITTED, AuditState.UNVERIFIED),
        (AuditState.OBSERVED, AuditState.UNVERIFIED),
        (AuditState.UNVERIFIED, AuditState.UNVERIFIED),
        (AuditState.DEGRADED, AuditState.DEGRADED),
        (AuditState.REJECTED, AuditState.REJECTED),
    ],
)
def test_what_says_more_stays(state: AuditState, expected: AuditState) -> None:
    assert state_after(audit(state), workload(OTHER)) is expected


@pytest.mark.parametrize("by_decision", [AuditState.ADMITTED, AuditState.OBSERVED])
def test_what_is_right_again_goes_back_to_what_it_was(by_decision: AuditState) -> None:
    found = audit()
    [turn] = found.status.transitions
    status = msgspec.structs.replace(
        found.status, state=by_decision, transitions=(msgspec.structs.replace(turn, state=by_decision),)
    )
    found = msgspec.structs.replace(found, status=status)
    astray = verified(found, workload(OTHER), TAKEN, TAKEN)
    assert astray
    assert verified(astray, workload(), TAKEN, TAKEN) is None  # nobody reports: nothing is known
    back = verified(astray, workload(JUDGED), TAKEN, TAKEN + timedelta(minutes=1))
    assert back
    assert back.status.state is by_decision
    assert [each.outcome for each in back.status.transitions][:2] == ["verified", "unverified"]


def test_the_transition_names_container_running_and_judged() -> None:
    changed = verified(audit(), workload(OTHER), TAKEN, TAKEN)
    assert changed
    newest = changed.status.transitions[0]
    assert (newest.state, newest.at) == (AuditState.UNVERIFIED, TAKEN)
    assert newest.message == f"web (nginx:1.27) runs {OTHER}, judged was {JUDGED}"
    assert changed.spec == audit().spec
    assert changed.status.decision == msgspec.structs.replace(audit().status.decision, judged_at=TAKEN)


def test_it_is_told_once_and_again_when_it_is_another() -> None:
    changed = verified(audit(), workload(OTHER), TAKEN, TAKEN)
    assert changed
    assert verified(changed, workload(OTHER), TAKEN, TAKEN + timedelta(minutes=10)) is None
    another = verified(changed, workload(THIRD), TAKEN, TAKEN + timedelta(minutes=10))
    assert another
    assert THIRD in another.status.transitions[0].message
    assert sum(each.outcome == "unverified" for each in another.status.transitions) == 1


def test_a_decision_later_than_the_inventory_waits_for_the_next() -> None:
    found = audit()
    assert verified(found, workload(OTHER), found.status.decision.at, TAKEN) is None


def test_the_same_decision_again_does_not_undo_it_and_a_later_one_does() -> None:
    found = audit()
    changed = verified(found, workload(OTHER), TAKEN, TAKEN)
    assert changed
    assert merge(changed, found) == merge(found, changed) == changed
    later = audit_of(rejected(2, decided_at=TAKEN), Standing(name=NAME))
    assert merge(changed, later).status.state is AuditState.REJECTED


DIGESTS = st.frozensets(st.sampled_from([JUDGED, LIST, OTHER, THIRD]))


@given(st.lists(DIGESTS, max_size=2 * MAX_TRANSITIONS))
def test_the_state_follows_the_last_inventory_and_doing_it_twice_changes_nothing(
    inventories: list[frozenset[str]],
) -> None:
    found, expected = audit(), AuditState.ADMITTED
    for number, digests in enumerate(inventories):
        at = TAKEN + timedelta(minutes=number)
        found = verified(found, workload(*digests), TAKEN, at) or found
        if digests:
            expected = AuditState.UNVERIFIED if digests - {JUDGED, LIST} else AuditState.ADMITTED
        assert found.status.state is expected
        assert verified(found, workload(*digests), TAKEN, at) is None
    assert len(found.status.transitions) <= MAX_TRANSITIONS
