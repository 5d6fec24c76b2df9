"""The Audit of what nobody decided about, and that any decision replaces it, whatever the order."""

from datetime import timedelta
from itertools import permutations

import msgspec
import pytest

from services.audit_writer.audit import Standing, audit_of, merge, written_part
from services.audit_writer.observed import PATIENCE, as_if_decided, is_due, observed_audit
from services.audit_writer.running import RunningImage, Workload
from services.audit_writer.verification import state_by_decision
from shared import crds
from shared.contracts import Action, ContainerKind, Mode, OwnerClaim
from shared.crds import Audit, AuditState, OwnerReference
from tests.audit_writer.decisions import START, claim, decision, rejected

NAME = "replicaset-web-5cd466fccb"
OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web-5cd466fccb", uid="owner-uid")
OWNED = Standing(name=NAME, owner=OWNER)


def running(image: str = "nginx:1.27", reference: str = "docker.io/library/nginx:1.27") -> RunningImage:
    return RunningImage(
        container="web", container_kind=ContainerKind.CONTAINER, image=image, reference=reference
    )


def workload(*images: RunningImage, owner: OwnerClaim | None = None, audit: str = NAME) -> Workload:
    return Workload(
        namespace="shop",
        audit=audit,
        owner=owner or claim(),
        pod="web-5cd466fccb-x",
        release="web",
        release_matched="web",
        fake_release=False,
        pods=3,
        since=START,
        images=images or (running(),),
    )


def observed(mode: Mode = Mode.ENFORCE, standing: Standing = OWNED, what: Workload | None = None) -> Audit:
    return observed_audit(as_if_decided(what or workload(), lambda _: mode, START), standing)


def test_it_says_what_is_known_and_no_more() -> None:
    found = observed()
    assert (found.metadata.name, found.metadata.owner_references) == (NAME, (OWNER,))
    assert (found.spec.action, found.spec.image) == ("allowed", ("nginx:1.27",))
    assert found.spec.result == ("Image has no verdict yet: nginx:1.27",)
    assert found.status.state is AuditState.OBSERVED
    assert state_by_decision(found) is AuditState.OBSERVED
    assert found.status.last_seen == START
    labels = found.metadata.labels
    assert (labels[crds.STATE_LABEL], labels[crds.OWNED_LABEL], labels[crds.COMPLETE_LABEL]) == (
        "observed",
        "true",
        "false",
    )
    assert written_part(found) == found


def test_what_is_off_is_listed_and_awaits_no_verdict() -> None:
    found = observed(Mode.OFF)
    assert [each.verdict for each in found.spec.images] == ["not_asked"]
    assert found.metadata.labels[crds.COMPLETE_LABEL] == "true"


def test_what_is_no_reference_can_have_no_verdict() -> None:
    [image] = observed(what=workload(running("NO", ""))).spec.images
    assert (image.verdict, image.error.partition(":")[0]) == ("error", "bad_reference")


@pytest.mark.parametrize("made", [decision, rejected])
def test_any_decision_replaces_it_in_any_order(made: object) -> None:
    long_ago = made(1, decided_at=START - timedelta(days=9), owner=claim())  # type: ignore[operator]  # one of two
    decided, seen = audit_of(long_ago, OWNED), observed()
    again = msgspec.structs.replace(seen, status=msgspec.structs.replace(seen.status, last_seen=START))
    ends = []
    for parts in permutations((decided, seen, again)):
        end = parts[0]
        for part in parts[1:]:
            end = merge(end, part)
        ends.append(end)
    assert all(end == ends[0] for end in ends)
    assert ends[0].spec == decided.spec
    assert ends[0].status.state is decided.status.state
    assert ends[0].status.decision == decided.status.decision
    assert state_by_decision(ends[0]) is decided.status.state


def test_what_left_the_workload_as_it_was_does_not_replace_it() -> None:
    refused = rejected(1, operation="UPDATE", owner=claim())
    for one, other in permutations((audit_of(refused, OWNED), observed())):
        end = merge(one, other)
        assert end.status.state is AuditState.OBSERVED
        assert {each.state for each in end.status.transitions} == {AuditState.OBSERVED, AuditState.REJECTED}


def test_observing_again_is_one_transition() -> None:
    later = observed_audit(
        as_if_decided(workload(), lambda _: Mode.ENFORCE, START + timedelta(hours=1)), OWNED
    )
    end = merge(observed(), later)
    assert len(end.status.transitions) == 1
    assert end.status.last_seen == START + timedelta(hours=1)


def test_a_young_workload_is_given_time_to_get_its_audit() -> None:
    assert not is_due(workload(), START + PATIENCE - timedelta(seconds=1))
    assert is_due(workload(), START + PATIENCE)
    assert not is_due(msgspec.structs.replace(workload(), since=None), START + PATIENCE)


def test_a_pod_without_controller_claims_none() -> None:
    itself = OwnerClaim(api_version="v1", kind="Pod", name="lonely", uid="pod-uid")
    lonely = as_if_decided(workload(owner=itself, audit="pod-lonely"), lambda _: Mode.ENFORCE, START)
    assert (lonely.owner, lonely.pod_uid) == (None, "pod-uid")
    pretending = as_if_decided(workload(owner=itself), lambda _: Mode.ENFORCE, START)
    assert pretending.owner == itself
    assert pretending.action is Action.ALLOWED
