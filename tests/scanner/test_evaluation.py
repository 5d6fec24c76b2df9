"""From Anchore's evaluation to a verdict: a table, and what must hold for any answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner import anchore_v1_api as api
from services.scanner import evaluation
from services.scanner.anchore import Evaluation, Image
from services.scanner.anchore_v1 import translated
from services.scanner.evaluation import Lifetimes, OnUnmapped, Rules
from services.scanner.failures import ScanFailed
from shared import contracts
from shared.contracts import MAX_REASONS, ErrorClass, Result, ScanRequest, Verdict

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DIGEST, OTHER, LIST = (f"sha256:{letter * 64}" for letter in "abc")
HEADER = [
    "Image_Id",
    "Repo_Tag",
    "Trigger_Id",
    "Gate",
    "Trigger",
    "Check_Output",
    "Gate_Action",
    "Whitelisted",
]
LIFETIMES = Lifetimes(passed=6 * 3600, failed=300, tag=900, known=168 * 3600)
REQUEST = ScanRequest(tenant="t", image="r.example/a:1", bundle_id="b", asked_at=NOW)
MAPPED = {"id": "m", "name": "everything"}


def row(
    action: str, text: str = "found", trigger_id: str = "id", *, whitelisted: object = False
) -> list[Any]:
    return ["i", "r.example/a:1", trigger_id, "vulnerabilities", "package", text, action, whitelisted]


def found(status: str, *rows: list[Any], **result: Any) -> Evaluation:
    """The check's evaluation, decoded as from the wire."""
    table = {"i": {"result": {"header": HEADER, "rows": list(rows)}}, "policy_data": [], "policy_name": "p"}
    reason = {"final_action_reason": "policy_evaluation", "matched_mapping_rule": MAPPED, "result": table}
    body = {"status": status, "policyId": "b", "detail": {"result": reason | result}}
    return translated(msgspec.convert(body, api.Evaluation))


def judge(
    answer: Evaluation,
    *,
    is_mutable: bool = True,
    previous: Verdict | None = None,
    on_unmapped: OnUnmapped = OnUnmapped.PASS,
    lifetimes: Lifetimes = LIFETIMES,
    digest: str = DIGEST,
    list_digest: str | None = None,
    now: datetime = NOW,
) -> Verdict:
    return evaluation.verdict(
        REQUEST,
        Image(digest=digest, list_digest=list_digest or digest, analysis_status="analyzed"),
        answer,
        bundle_hash="h",
        is_mutable=is_mutable,
        previous=previous,
        rules=Rules(lifetimes=lifetimes, on_unmapped=on_unmapped),
        now=now,
    )


@pytest.mark.parametrize(
    ("answer", "result", "actions"),
    [
        (found("pass"), Result.PASS, []),
        (found("pass", row("warn")), Result.PASS, ["warn"]),
        (found("pass", row("go")), Result.PASS, []),
        (found("fail", row("stop")), Result.FAIL, ["stop"]),
        (found("fail", row("warn"), row("stop"), row("go")), Result.FAIL, ["stop", "warn"]),
        (found("FAIL", row("STOP")), Result.FAIL, ["stop"]),
        (found("fail", row("stop"), row("stop", whitelisted={"id": "w"})), Result.FAIL, ["stop"]),
        (found("pass", row("stop"), final_action_reason="whitelisted"), Result.PASS, []),
    ],
)
def test_what_anchore_says_becomes_the_verdict(
    answer: Evaluation, result: Result, actions: list[str]
) -> None:
    verdict = judge(answer)
    assert verdict.result is result
    assert [reason.action for reason in verdict.reasons] == actions
    assert verdict.reasons_total == len(actions)
    assert not verdict.unmapped


def test_a_verdict_names_what_was_judged() -> None:
    verdict = judge(found("pass"), list_digest=LIST)
    assert (verdict.tenant, verdict.image, verdict.bundle_id) == ("t", "r.example/a:1", "b")
    assert (verdict.digest, verdict.list_digest, verdict.bundle_hash) == (DIGEST, LIST, "h")
    assert verdict.evaluated_at == NOW


@pytest.mark.parametrize(
    ("status", "is_mutable", "fresh"),
    [("pass", False, 6 * 3600), ("pass", True, 900), ("fail", False, 300), ("fail", True, 300)],
)
def test_how_long_a_verdict_is_fresh(status: str, is_mutable: bool, fresh: float) -> None:  # noqa: FBT001
    verdict = judge(found(status), is_mutable=is_mutable)
    assert verdict.fresh_until == NOW + timedelta(seconds=fresh)
    assert verdict.known_until == NOW + timedelta(hours=168)


def test_a_verdict_is_known_at_least_as_long_as_it_is_fresh() -> None:
    short = Lifetimes(passed=3600, failed=3600, tag=3600, known=1)
    verdict = judge(found("pass"), is_mutable=False, lifetimes=short)
    assert verdict.known_until == verdict.fresh_until == NOW + timedelta(hours=1)


def test_without_a_fresh_life_a_verdict_is_stale_at_once() -> None:
    nothing = Lifetimes(passed=0, failed=0, tag=0, known=60)
    for status in ("pass", "fail"):
        assert judge(found(status), lifetimes=nothing).fresh_until == NOW


@pytest.mark.parametrize("status", ["", "go", "passed", "pass ", "null", "warn"])
def test_another_status_is_no_verdict(status: str) -> None:
    with pytest.raises(ScanFailed) as failed:
        judge(found(status))
    assert failed.value.error is ErrorClass.ANCHORE_NOT_UNDERSTOOD


@pytest.mark.parametrize("on_unmapped", OnUnmapped)
def test_an_image_that_no_mapping_matches(on_unmapped: OnUnmapped) -> None:
    verdict = judge(found("pass", matched_mapping_rule=False), on_unmapped=on_unmapped)
    assert verdict.result.value == on_unmapped.value
    assert verdict.unmapped
    [reason] = verdict.reasons
    assert "catch-all" in reason.text
    assert reason.action == ("stop" if verdict.result is Result.FAIL else "warn")


@pytest.mark.parametrize("on_unmapped", OnUnmapped)
def test_a_whitelisted_image_needs_no_mapping(on_unmapped: OnUnmapped) -> None:
    answer = found(
        "pass",
        matched_mapping_rule=False,
        matched_whitelisted_images_rule={"name": "ok"},
        final_action_reason="whitelisted",
    )
    verdict = judge(answer, on_unmapped=on_unmapped)
    assert (verdict.result, verdict.unmapped) == (Result.PASS, False)


@pytest.mark.parametrize("on_unmapped", OnUnmapped)
def test_a_blacklisted_image_fails_whatever_an_unmapped_one_does(on_unmapped: OnUnmapped) -> None:
    answer = found(
        "fail",
        matched_mapping_rule=False,
        matched_blacklisted_images_rule={"name": "never"},
        final_action_reason="blacklisted",
    )
    verdict = judge(answer, on_unmapped=on_unmapped)
    assert verdict.result is Result.FAIL
    assert not verdict.unmapped
    assert [(reason.gate, reason.trigger) for reason in verdict.reasons] == [("bundle", "blacklisted_images")]
    assert "never" in verdict.reasons[0].text


def test_a_pass_without_the_detail_asked_for_is_no_verdict() -> None:
    """Whether a mapping matched is part of the detail: without it nobody knows what the pass is worth."""
    with pytest.raises(ScanFailed) as failed:
        judge(translated(api.Evaluation(status="pass", policy_id="b")))
    assert failed.value.error is ErrorClass.ANCHORE_NOT_UNDERSTOOD


def test_a_fail_without_detail_is_still_a_fail() -> None:
    assert judge(translated(api.Evaluation(status="fail", policy_id="b"))).result is Result.FAIL


def test_failing_since_the_first_fail_of_this_digest() -> None:
    first = judge(found("fail"))
    assert first.failing_since == NOW
    later = judge(found("fail"), previous=first, now=NOW + timedelta(hours=1))
    assert later.failing_since == NOW
    assert later.evaluated_at == NOW + timedelta(hours=1)
    other = judge(found("fail"), previous=first, digest=OTHER, now=NOW + timedelta(hours=1))
    assert other.failing_since == NOW + timedelta(hours=1)


def test_a_pass_ends_the_failing() -> None:
    first = judge(found("fail"))
    passing = judge(found("pass"), previous=first)
    assert passing.failing_since is None
    assert judge(found("fail"), previous=passing, now=NOW + timedelta(1)).failing_since == NOW + timedelta(1)


def test_of_many_findings_the_stopping_ones_are_kept() -> None:
    many = [row("warn", str(number)) for number in range(100)] + [row("stop", "the one")]
    verdict = judge(found("fail", *many))
    assert len(verdict.reasons) == MAX_REASONS
    assert verdict.reasons[0].text == "the one"
    assert verdict.reasons_total == 101


def test_no_finding_makes_a_verdict_too_large_for_a_message() -> None:
    huge = "\x00" * 300_000
    line = row("stop", huge, huge)
    line[3] = line[4] = huge
    verdict = judge(found("fail", *[line] * 50))
    assert len(contracts.encode(verdict)) <= contracts.MAX_MESSAGE_BYTES
    blacklisted = found(
        "fail", final_action_reason="blacklisted", matched_blacklisted_images_rule={"name": huge}
    )
    contracts.encode(judge(blacklisted))


@pytest.mark.parametrize(
    "rows", [[[]], [["i"]], [[None] * 8], [[{"a": 1}] * 12], [["i", "t", 5, 6, 7, 8, "stop"]]]
)
def test_odd_rows_are_borne(rows: list[list[Any]]) -> None:
    assert judge(found("fail", *rows)).result is Result.FAIL


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
findings = st.lists(st.lists(scalars, max_size=10), max_size=60)


@given(
    status=st.sampled_from(["pass", "fail"]),
    rows=findings,
    mapped=st.sampled_from([False, None, True, MAPPED]),
    on_unmapped=st.sampled_from(OnUnmapped),
    is_mutable=st.booleans(),
)
def test_whatever_is_found(
    status: str,
    rows: list[list[Any]],
    mapped: object,
    on_unmapped: OnUnmapped,
    is_mutable: bool,  # noqa: FBT001
) -> None:
    """A fail never becomes a pass, nothing is fresh longer than known, and the wire gives it back unchanged."""
    answer = found(status, *rows, matched_mapping_rule=mapped)
    verdict = judge(answer, on_unmapped=on_unmapped, is_mutable=is_mutable)
    assert status == "pass" or verdict.result is Result.FAIL
    assert verdict.result is Result.PASS or verdict.failing_since == NOW
    assert NOW <= verdict.fresh_until <= verdict.known_until
    assert len(verdict.reasons) <= MAX_REASONS
    assert contracts.decode(contracts.encode(verdict), contracts.VERDICT) == verdict
