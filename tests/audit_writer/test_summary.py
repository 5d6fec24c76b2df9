"""What a person reads of an Audit in a list, and what programs select it by."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit_writer.audit import Standing, audit_of, merge, unowned, written_part
from services.audit_writer.limits import stored_size
from services.audit_writer.summary import summary, with_summary
from shared import crds
from shared.contracts import Action, AdmissionDecided, ErrorClass, ImageDecision, Outcome, Reason
from shared.crds import AuditState, AuditSummary
from tests.audit_writer.decisions import REASON, START, decision, image, rejected

STANDING = Standing(name="pod-web")
PENDING, ERROR, PASS, FAIL = Outcome.PENDING, Outcome.ERROR, Outcome.PASS, Outcome.FAIL


def of(*images: ImageDecision, action: Action = Action.ALLOWED) -> AuditSummary:
    return audit_of(decision(images=images, action=action), STANDING).status.summary


def found(text: str, trigger_id: str = "", gate: str = "vulnerabilities", trigger: str = "package") -> Reason:
    return Reason(gate=gate, trigger=trigger, action="stop", text=text, trigger_id=trigger_id)


@pytest.mark.parametrize(
    ("images", "result"),
    [
        ([image()], "passed"),
        ([image("a"), image("b"), image("c")], "all 3 passed"),
        ([image("a"), image("b"), image("a", container="second")], "all 2 passed"),
        ([image(outcome=FAIL)], "failed: CVE-2026-0001"),
        ([image("a"), image("b", FAIL), image("c")], "1 of 3 failed: CVE-2026-0001"),
        ([image(outcome=FAIL, reasons=(REASON, found("x", "CVE-2026-2")))], "failed: CVE-2026-0001, …"),
        ([image(outcome=FAIL, reasons=(REASON, REASON))], "failed: CVE-2026-0001"),
        (
            [image(outcome=FAIL, reasons=(found("", "GHSA-abcd-1234-wxyz+lib"),))],
            "failed: GHSA-abcd-1234-wxyz",
        ),
        (
            [image(outcome=FAIL, reasons=(found("USER root", gate="dockerfile", trigger="user"),))],
            "failed: dockerfile/user",
        ),
        ([image(outcome=FAIL, reasons=())], "failed"),
        ([image(outcome=FAIL, whitelist_item="web")], "failed, whitelisted"),
        ([image(outcome=PENDING, whitelist_item="web")], "pending, whitelisted"),
        ([image(outcome=FAIL, grace_until=START)], "failed, in grace"),
        ([image(outcome=PENDING)], "pending"),
        ([image(outcome=ERROR)], "unchecked: image_not_found"),
        ([image(outcome=Outcome.NOT_ASKED)], "not asked"),
        ([image("a", PENDING), image("b", ERROR), image("c", FAIL)], "1 of 3 failed: CVE-2026-0001"),
        ([image("a", PENDING), image("b", ERROR), image("c")], "1 of 3 unchecked: image_not_found"),
        ([image("a", FAIL, whitelist_item="web"), image("b", PENDING)], "1 of 2 pending"),
        ([image("a", FAIL, whitelist_item="web"), image("b")], "1 of 2 failed, whitelisted"),
    ],
)
def test_results(images: list[ImageDecision], result: str) -> None:
    assert of(*images).result == result


@pytest.mark.parametrize(
    ("images", "shown"),
    [
        ([image()], "nginx:1.27"),
        ([image("a"), image("b", FAIL), image("c")], "b, +2 more"),
        (
            [image("r.example:5000/team/" + "long/" * 8 + "app:1.2")],
            "…e/team/long/long/long/long/long/long/long/long/app:1.2"[-39:],
        ),
        ([image("nginx@sha256:" + "0123456789ab" + "c" * 52)], "nginx@0123456789ab…"),
        ([image("x" * 5000 + "/app:1")], "xxx…"),
        ([image("bad\x1b[31m\nname")], "bad [31m name"),
    ],
)
def test_images(images: list[ImageDecision], shown: str) -> None:
    assert of(*images).images.endswith(shown)
    assert len(of(*images).images) <= 60


def test_reasons_and_policies() -> None:
    failing = image("bad", FAIL, policy="prod")
    assert of(failing, image(policy="prod")).reason == "vulnerabilities/package: CVE-2026-0001 in openssl"
    assert of(failing, image(policy="prod")).policy == "prod"
    assert of(failing, image()).policy == "prod, +1 more"
    assert of(image()).policy == "default"
    assert of(image()).reason == ""
    assert of(image(outcome=FAIL, whitelist_item="web")).reason == "whitelisted by web"
    grace = image(outcome=FAIL, grace_until=START + timedelta(hours=2))
    assert of(grace).reason == "ran here before it failed: let in until 2026-11-23 14:00Z"
    unreadable = image(
        outcome=ERROR, error=ErrorClass.REGISTRY_UNAUTHORIZED, error_message="401 from r.example"
    )
    assert of(unreadable).reason == "registry_unauthorized: 401 from r.example"
    assert of(image(outcome=ERROR)).reason == "image_not_found"
    assert of() == AuditSummary()


@pytest.mark.parametrize(
    ("decided", "complete"),
    [
        (decision(), "true"),
        (decision(images=()), "true"),
        (decision(images=(image("a"), image("b", PENDING))), "false"),
        (decision(images=(image(outcome=ERROR),)), "false"),
        (decision(images=(image(outcome=PENDING, whitelist_item="web"),)), "false"),
        (decision(images=(image(outcome=FAIL),)), "true"),
        (decision(images=(image(outcome=Outcome.NOT_ASKED),)), "true"),
        (rejected(images=(image(outcome=PENDING), image("b", FAIL))), "true"),
    ],
)
def test_what_was_let_in_without_a_verdict_is_labelled_incomplete(
    decided: AdmissionDecided, complete: str
) -> None:
    audit = audit_of(decided, STANDING)
    assert audit.metadata.labels[crds.COMPLETE_LABEL] == complete
    assert set(merge(audit, audit_of(rejected(9), STANDING)).metadata.labels) == set(audit.metadata.labels)


def test_labels_and_columns_follow_whoever_changes_the_audit() -> None:
    audit = audit_of(decision(images=(image(outcome=PENDING),)), STANDING)
    judged = msgspec.structs.replace(audit.spec.images[0], verdict="fail", reasons=(REASON,))
    spec = msgspec.structs.replace(audit.spec, images=(judged,))
    status = msgspec.structs.replace(audit.status, state=AuditState.DEGRADED)
    written = written_part(msgspec.structs.replace(audit, spec=spec, status=status))
    assert written.metadata.labels[crds.STATE_LABEL] == "degraded"
    assert written.metadata.labels[crds.COMPLETE_LABEL] == "true"
    assert written.status.summary.result == "failed: CVE-2026-0001"
    assert with_summary(written) == written
    assert unowned(written).metadata.labels[crds.OWNED_LABEL] == "false"


@given(
    st.lists(
        st.builds(
            image,
            st.text() | st.text(alphabet="<&é\u2028").map(lambda text: text * 99),
            st.sampled_from(list(Outcome)),
            policy=st.none() | st.text(alphabet="<").map(lambda text: text * 99),
            error_message=st.text(),
            reasons=st.lists(st.builds(found, st.text(), st.text(), st.text(), st.text())).map(tuple),
        ),
        max_size=4,
    )
)
def test_columns_are_one_short_line_whatever_the_pod(images: list[ImageDecision]) -> None:
    columns = summary(audit_of(decision(images=tuple(images)), STANDING))
    assert stored_size(columns) <= 2048
    for text, limit in (
        (columns.images, 128),
        (columns.result, 128),
        (columns.reason, 256),
        (columns.policy, 128),
    ):
        assert len(text) <= limit
        assert text.isprintable()
