"""One decision as an Audit, and how Audits become one."""

from datetime import timedelta

import msgspec
import pytest

from services.audit_writer.audit import Doubt, Standing, audit_of, merge, succeed, written_part
from shared import crds
from shared.contracts import Action, AdmissionDecided, ContainerKind, ErrorClass, Outcome
from shared.crds import Audit, AuditState, OwnerReference
from tests.audit_writer.decisions import DIGEST, REASON, START, decision, image, rejected

OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web-5cd466fccb", uid="owner-uid")
OWNED = Standing(name="replicaset-web-5cd466fccb", owner=OWNER)
UNOWNED = Standing(name="replicaset-web-5cd466fccb")


def test_an_allowed_decision() -> None:
    audit = audit_of(decision(7), OWNED)
    assert audit.metadata.name == "replicaset-web-5cd466fccb"
    assert audit.metadata.namespace == "shop"
    assert audit.metadata.owner_references == (OWNER,)
    assert audit.metadata.labels == {
        "fakerelease": "false",
        "security.banzaicloud.com/release": "web",
        "security.banzaicloud.com/action": "allowed",
        "security.banzaicloud.com/state": "admitted",
        "security.banzaicloud.com/owned": "true",
        "security.banzaicloud.com/complete": "true",
    }
    assert audit.spec.release_name == "web"
    assert audit.spec.resource == "Pod"
    assert audit.spec.image == ("nginx:1.27",)
    assert audit.spec.result == ("Image passed policy check: nginx:1.27",)
    assert audit.spec.action == "allowed"
    assert audit.status.state is AuditState.ADMITTED
    assert audit.status.last_seen == START + timedelta(seconds=7)
    assert [each.id for each in audit.status.transitions] == [decision(7).id]
    assert audit.status.conditions == ()


def test_a_rejected_decision_keeps_the_evidence() -> None:
    judged = rejected(images=(image(outcome=Outcome.FAIL, container_kind=ContainerKind.INIT, policy="prod"),))
    audit = audit_of(judged, UNOWNED)
    assert audit.spec.action == "reject"
    assert audit.status.state is AuditState.REJECTED
    assert audit.metadata.labels[crds.OWNED_LABEL] == "false"
    [evidence] = audit.spec.images
    assert evidence.verdict == "fail"
    assert evidence.digest == DIGEST
    assert evidence.policy == "prod"
    assert evidence.container_kind is ContainerKind.INIT
    assert evidence.reasons == (REASON,)


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (Outcome.PASS, "Image passed policy check: nginx:1.27"),
        (Outcome.FAIL, "Image failed policy check: nginx:1.27"),
        (Outcome.PENDING, "Image has no verdict yet: nginx:1.27"),
        (Outcome.ERROR, "Image could not be checked: nginx:1.27"),
        (Outcome.NOT_ASKED, "Image not checked: nginx:1.27"),
    ],
)
def test_every_outcome_has_its_sentence(outcome: Outcome, sentence: str) -> None:
    assert audit_of(decision(images=(image(outcome=outcome),)), OWNED).spec.result == (sentence,)


def test_a_whitelisted_release_is_called_so_and_keeps_its_verdict() -> None:
    audit = audit_of(decision(images=(image(outcome=Outcome.FAIL, whitelist_item="web"),)), OWNED)
    assert audit.spec.result == ("Whitelisted release: nginx:1.27",)
    assert audit.spec.images[0].verdict == "fail"
    assert audit.spec.images[0].whitelist_item == "web"


def test_an_error_says_why_there_is_no_verdict() -> None:
    unreadable = image(
        outcome=Outcome.ERROR, error=ErrorClass.REGISTRY_UNAUTHORIZED, error_message="401 from r.example"
    )
    audit = audit_of(decision(images=(unreadable,)), OWNED)
    assert audit.spec.images[0].error == "registry_unauthorized: 401 from r.example"


def test_a_doubtful_owner_is_a_condition_dated_by_the_decision() -> None:
    audit = audit_of(decision(3), Standing(name="pod-web", doubt=Doubt("OtherUid", "it has another uid")))
    [condition] = audit.status.conditions
    assert (condition.type, condition.status, condition.reason) == ("OwnerUnverified", "True", "OtherUid")
    assert condition.last_transition_time == START + timedelta(seconds=3)


def test_the_later_decision_wins_whichever_comes_first() -> None:
    early, late = audit_of(decision(1), OWNED), audit_of(rejected(2), OWNED)
    for both in (merge(early, late), merge(late, early)):
        assert both.spec == late.spec
        assert both.status.state is AuditState.REJECTED
        assert both.status.last_seen == late.status.last_seen
        assert both.metadata.labels[crds.ACTION_LABEL] == "reject"
        assert [each.action for each in both.status.transitions] == ["reject", "allowed"]


def test_at_the_same_moment_the_greater_id_wins() -> None:
    one, other = audit_of(decision(1, after=0), OWNED), audit_of(rejected(2, after=0), OWNED)
    assert merge(one, other).status.decision.id == merge(other, one).status.decision.id == decision(2).id


def test_the_same_outcome_again_renews_its_transition() -> None:
    pods = [audit_of(decision(number), OWNED) for number in range(30)]
    audit = pods[0]
    for pod in pods[1:]:
        audit = merge(audit, pod)
    assert [each.id for each in audit.status.transitions] == [decision(29).id]


@pytest.mark.parametrize(
    "attempt",
    [
        rejected(9, operation="UPDATE"),
        decision(9, operation="UPDATE", sub_resource="ephemeralcontainers", images=(image("busybox:1"),)),
    ],
)
def test_what_leaves_the_workload_as_it_was_is_a_transition_only(attempt: AdmissionDecided) -> None:
    created, tried = audit_of(decision(1), OWNED), audit_of(attempt, OWNED)
    for both in (merge(created, tried), merge(tried, created)):
        assert both.spec == created.spec
        assert both.status.state is AuditState.ADMITTED
        assert both.status.last_seen == tried.status.last_seen
        assert both.status.transitions[0].id == attempt.id
    assert merge(tried, tried) == tried


def test_a_pod_whose_name_was_taken_is_a_transition_only() -> None:
    lives = audit_of(decision(1), OWNED)
    never_stored = audit_of(rejected(2), msgspec.structs.replace(UNOWNED, is_attempt=True))
    both = merge(lives, never_stored)
    assert both.metadata.owner_references == (OWNER,)
    assert both.spec == lives.spec
    assert [each.action for each in both.status.transitions] == ["reject", "allowed"]


def test_an_update_that_was_allowed_is_what_runs_now() -> None:
    updated = audit_of(decision(9, operation="UPDATE", images=(image("nginx:1.28"),)), OWNED)
    assert merge(audit_of(decision(1), OWNED), updated).spec.image == ("nginx:1.28",)


def test_an_owner_found_later_is_kept_by_the_same_decision() -> None:
    before, after = audit_of(decision(1), UNOWNED), audit_of(decision(1), OWNED)
    assert merge(before, after) == merge(after, before) == after


def test_a_later_decision_without_owner_takes_the_owner_away() -> None:
    assert merge(audit_of(decision(1), OWNED), audit_of(rejected(2), UNOWNED)).metadata.owner_references == ()


def test_an_owner_alive_under_the_same_name_ends_the_record_of_the_dead_one() -> None:
    anew = msgspec.structs.replace(OWNED, owner=msgspec.structs.replace(OWNER, uid="new-uid"))
    old, new = audit_of(rejected(5), OWNED), audit_of(decision(1), anew)
    assert succeed(old, new) == new
    assert succeed(old, audit_of(decision(6), OWNED)).metadata.owner_references == (OWNER,)


def test_what_others_put_into_the_metadata_is_not_ours_to_write() -> None:
    audit = audit_of(decision(), OWNED)
    metadata = msgspec.structs.replace(
        audit.metadata,
        uid="audit-uid",
        resource_version="17",
        labels=audit.metadata.labels | {"team": "shop"},
        annotations={"note": "seen"},
        creation_timestamp=START,
    )
    assert written_part(msgspec.structs.replace(audit, metadata=metadata)) == audit


def test_an_audit_reads_back_as_it_was_written() -> None:
    audit = audit_of(rejected(1, release="r" * 70), OWNED)
    assert msgspec.json.decode(msgspec.json.encode(audit), type=Audit) == audit


def test_what_is_sent_keeps_empty_fields() -> None:
    sent = msgspec.json.decode(msgspec.json.encode(audit_of(decision(user=""), UNOWNED)))
    assert sent["spec"]["user"] == ""
    assert sent["status"]["conditions"] == []
    assert "uid" not in sent["metadata"]


def test_a_deferral_has_no_audit() -> None:
    with pytest.raises(KeyError):
        audit_of(decision(action=Action.DEFERRED, code=429), OWNED)
