"""What the scanner's client of API v2 asks and understands, held to the API description of Anchore Enterprise.

Nobody has recorded that server, so answers are spelled out: a row each, and what it must come to. That both clients come to
the same over the simulator's two APIs is in test_anchore_clients_agree.py.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from services.scanner import anchore, anchore_v2_api
from services.scanner.anchore_v2 import AnchoreV2
from services.scanner.failures import ScanFailed
from shared import images
from shared.contracts import Reason, Result
from tests.support.anchore_client import (
    ABSENT,
    BUNDLE_UNKNOWN,
    NOT_ANALYZED,
    NOT_UNDERSTOOD,
    TRY_AGAIN,
    UNAUTHORIZED,
    UNSUPPORTED,
    Sent,
    always,
    calls_of,
    outcome,
)
from tests.support.anchore_v2 import description

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
TAGGED = images.parse("r.example/a:1")
PINNED = images.parse(f"r.example/a:1@{DIGEST}")


@asynccontextmanager
async def client_of(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[AnchoreV2, list[Sent]]]:
    async with calls_of(answer) as (calls, journal):
        yield AnchoreV2(calls), journal


def record(digest: str = DIGEST, **more: Any) -> dict[str, Any]:
    detail = [{"full_tag": "r.example/a:1"}]
    known = {"parent_digest": digest, "analysis_status": "analyzed", "image_detail": detail}
    return {"image_digest": digest, **known, **more}


def fault(status: int, message: str, *codes: str) -> dict[str, Any]:
    """An error as the description has it."""
    detail = {"error_codes": list(codes)}
    return {"code": status, "error_type": "Bad", "message": message, "detail": detail}


def finding(action: str = "stop", **more: Any) -> dict[str, Any]:
    return {
        "gate": "vulnerabilities",
        "trigger": "package",
        "trigger_id": "CVE-1+ssl",
        "action": action,
        "message": "CVE-1 in ssl",
        "allowlisted": False,
        "policy_id": "rules",
        "recommendation": "",
        "rule_id": "r",
        **more,
    }


def problem(severity: str) -> dict[str, str]:
    return {"severity": severity, "problem_type": "unavailable", "details": "no feed"}


def evaluated(status: str = "pass", *findings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "status": status,
        "final_action": "go" if status == "pass" else "stop",
        "final_action_reason": "policy_evaluation",
        "evaluation_problems": [],
        "evaluation_time": "2026-11-23T12:00:00Z",
        "image_allowlisted": False,
        "image_denylisted": False,
        "image_mapped_to_rule": True,
        "number_of_findings": len(findings),
        "details": {"findings": list(findings), "policy": {**POLICY}, "policy_action": "go"},
        **more,
    }


POLICY = {"id": "b", "name": "b", "version": "2", "rule_sets": [], "mappings": []}


def checked(*evaluations: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {"policy_id": "b", "image_digest": DIGEST, "evaluated_tag": "r.example/a:1"}
    return {**about, "evaluations": list(evaluations), **more}


# Against the description.


@pytest.mark.parametrize(
    ("struct", "schema"),
    [
        (anchore_v2_api.AnchoreImage, "AnchoreImage"),
        (anchore_v2_api.ImageDetail, "ImageDetail"),
        (anchore_v2_api.Finding, "PolicyEvaluationFinding"),
        (anchore_v2_api.Problem, "PolicyEvaluationProblem"),
        (anchore_v2_api.ImageRule, "ImageSelectionRule"),
        (anchore_v2_api.EvaluationResult, "PolicyEvaluationResult"),
        (anchore_v2_api.PolicyEvaluation, "PolicyEvaluation"),
        (anchore_v2_api.PolicyRecord, "PolicyRecord"),
    ],
)
def test_fields_are_described_and_demanded_only_where_the_server_promises_them(
    struct: type[msgspec.Struct], schema: str
) -> None:
    described = description()._schemas[schema]
    needed = {field.encode_name for field in msgspec.structs.fields(struct) if field.required}
    assert {field.encode_name for field in msgspec.structs.fields(struct)} <= described["properties"].keys()
    if "required" in described:
        assert needed <= set(described["required"])


def test_the_states_and_actions_are_the_described_ones() -> None:
    schemas = description()._schemas
    states = schemas["AnchoreImage"]["properties"]["analysis_status"]["enum"]
    assert {*anchore.UNDER_WAY, anchore.ANALYZED, anchore.ANALYSIS_FAILED} == set(states)
    result = schemas["PolicyEvaluationResult"]["properties"]
    assert set(result["status"]["enum"]) == {each.value for each in Result}
    assert {"allowlisted", "denylisted"} <= set(result["final_action_reason"]["enum"])
    assert set(schemas["PolicyEvaluationProblem"]["properties"]["severity"]["enum"]) == {"error", "warn"}


async def test_what_is_asked_is_described() -> None:
    judge = description()
    async with client_of(always(404, b"{}")) as (client, journal):
        for call in (
            client.add_image(TAGGED),
            client.add_image(PINNED),
            client.image(DIGEST),
            client.check(DIGEST, PINNED, "b"),
            client.bundles(),
        ):
            assert await outcome(call) in {ABSENT, NOT_UNDERSTOOD}
    assert len(journal) == 5
    for sent in journal:
        assert judge.faults_in_request(sent.method, sent.path, sent.query, sent.body) == []
        operation = judge.operation(sent.method, sent.path)
        query = [each for each in operation["parameters"] if each.get("in") == "query"]
        assert {each["name"] for each in query if each.get("required")} <= sent.query.keys()
    added = [sent.body["source"] for sent in journal if sent.body]
    assert [[*source] for source in added] == [["tag"], ["digest"]]


def test_the_answers_made_up_here_are_described() -> None:
    judge = description()
    answer = checked(evaluated("fail", finding(), evaluation_problems=[problem("error")]))
    path = f"/v2/images/{DIGEST}/check"
    assert judge.faults_in_answer("GET", path, 200, answer) == []
    assert judge.faults_in_answer("GET", path, 404, fault(404, "x")) == []
    assert judge.faults_in_answer("POST", "/v2/images", 200, record()) == []


# An image.


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, record(), "image aaaaaaaa aaaaaaaa analyzed a:1"),
        (200, record(analysis_status="analyzing"), "image aaaaaaaa aaaaaaaa analyzing a:1"),
        (200, record(parent_digest=OTHER), "image aaaaaaaa bbbbbbbb analyzed a:1"),
        (200, record(parent_digest=None), "image aaaaaaaa aaaaaaaa analyzed a:1"),
        (200, record(image_detail=None), "image aaaaaaaa aaaaaaaa analyzed"),
        (200, record(image_detail=[{}, {"full_tag": None}]), "image aaaaaaaa aaaaaaaa analyzed"),
        (202, record(), "image aaaaaaaa aaaaaaaa analyzed a:1"),
        (200, [record()], NOT_UNDERSTOOD),  # as v1 answers
        (200, record("latest"), NOT_UNDERSTOOD),
        (200, record("../../policies"), NOT_UNDERSTOOD),
        (200, b"", NOT_UNDERSTOOD),
        (200, b"[" * 100_000, NOT_UNDERSTOOD),
        (200, b"<html>It works!</html>", NOT_UNDERSTOOD),
        (204, b"", NOT_UNDERSTOOD),
        (302, b"", NOT_UNDERSTOOD),
        (400, fault(400, "cannot fetch", "REGISTRY_IMAGE_NOT_FOUND"), "ScanFailed image_not_found"),
        (400, fault(400, "cannot fetch", "REGISTRY_NOT_ACCESSIBLE"), "ScanFailed registry_unavailable"),
        (400, fault(400, "no", "REGISTRY_PERMISSION_DENIED"), "ScanFailed registry_unauthorized"),
        (400, fault(400, "cannot fetch", "NEWS", "UNKNOWN"), "ScanFailed registry_unavailable"),
        (500, fault(500, "cannot fetch", "REGISTRY_IMAGE_NOT_FOUND"), "ScanFailed image_not_found"),
        (400, fault(400, "no such source"), UNSUPPORTED),
        (400, {"message": "'x' is not a pull string"}, NOT_UNDERSTOOD),
        (401, b"Unauthorized", UNAUTHORIZED),
        (403, fault(403, "Not authorized."), UNAUTHORIZED),
        (404, fault(404, "no such path"), NOT_UNDERSTOOD),
        (415, fault(415, "json!"), NOT_UNDERSTOOD),
        (429, fault(429, "slow down"), "Unavailable"),
        (500, fault(500, "failed"), TRY_AGAIN),
        (503, fault(503, "starting"), "Unavailable"),
    ],
)
async def test_answers_to_an_image_added(status: int, body: Any, expected: str) -> None:
    async with client_of(always(status, body)) as (client, _):
        assert await outcome(client.add_image(TAGGED)) == expected


async def test_an_image_by_its_digest() -> None:
    async with client_of(always(404, fault(404, "image not found in DB"))) as (client, _):
        assert await outcome(client.image(DIGEST)) == ABSENT
    async with client_of(always(200, record(OTHER))) as (client, _):
        assert await outcome(client.image(DIGEST)) == NOT_UNDERSTOOD
    async with client_of(always(200, record(OTHER, parent_digest=DIGEST))) as (client, _):
        assert (await outcome(client.image(DIGEST))).startswith("image bbbbbbbb aaaaaaaa")


# A check.


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (checked(evaluated()), "pass"),
        (checked(evaluated("fail", finding())), "fail: vulnerabilities/package"),
        (checked(evaluated(), evaluated("fail", finding())), "pass"),  # the newest counts
        (checked(evaluated(), image_digest=OTHER), NOT_UNDERSTOOD),
        (checked(evaluated(), evaluated_tag="r.example/a:2"), NOT_UNDERSTOOD),
        (checked(evaluated(), policy_id="another"), NOT_UNDERSTOOD),
        (checked(), NOT_UNDERSTOOD),
        (checked(evaluated("warn")), NOT_UNDERSTOOD),
        (checked(evaluated("PASS")), NOT_UNDERSTOOD),
        (checked({"status": "pass"}), NOT_UNDERSTOOD),  # mapped or not: it doesn't tell
        ([checked(evaluated())], NOT_UNDERSTOOD),
        ([{DIGEST: {"r.example/a:1": [{"status": "pass", "policyId": "b"}]}}], NOT_UNDERSTOOD),  # v1's
        (checked(evaluated(image_mapped_to_rule=False)), "unmapped"),
        (checked(evaluated(image_mapped_to_rule=False, image_allowlisted=True)), "pass"),
        (checked(evaluated(details=None)), "pass"),
        (checked(evaluated("fail", details=None)), "fail"),
        (checked(evaluated(evaluation_problems=[problem("error")])), NOT_UNDERSTOOD),
        (checked(evaluated(evaluation_problems=[problem("warn")])), "pass"),
        (
            checked(evaluated("fail", finding(), evaluation_problems=[problem("error")])),
            "fail: vulnerabilities/package",
        ),
        (
            checked(
                evaluated(
                    "fail",
                    finding(),
                    image_denylisted=True,
                    image_mapped_to_rule=False,
                    final_action_reason="denylisted",
                    matched_denylisted_images_rule={"name": "never"},
                )
            ),
            "fail: bundle/denylisted_images",
        ),
    ],
)
async def test_answers_to_a_check(answer: Any, expected: str) -> None:
    async with client_of(always(200, answer)) as (client, _):
        assert await outcome(client.check(DIGEST, TAGGED, "b")) == expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, fault(404, "image is not analyzed - analysis_status: analyzing"), NOT_ANALYZED),
        (404, fault(404, "image is not analyzed - analysis_status: not_analyzed"), NOT_ANALYZED),
        (
            404,
            fault(404, "image is not analyzed - analysis_status: analysis_failed"),
            "ScanFailed analysis_failed",
        ),
        (404, fault(404, "Policy bundle b not found in DB"), BUNDLE_UNKNOWN),
        (404, fault(404, "policy not found"), BUNDLE_UNKNOWN),
        (404, fault(404, "user has no active policy to evaluate: admin"), BUNDLE_UNKNOWN),
        (404, fault(404, "could not find any evaluations for input images"), TRY_AGAIN),
        (404, fault(404, "image not found in DB"), TRY_AGAIN),
        (404, b"<html>no such page</html>", NOT_UNDERSTOOD),
        (400, fault(400, "no"), NOT_UNDERSTOOD),
        (500, fault(500, "policy engine"), TRY_AGAIN),
        (502, b"", "Unavailable"),
    ],
)
async def test_refusals_of_a_check(status: int, body: Any, expected: str) -> None:
    async with client_of(always(status, body)) as (client, _):
        assert await outcome(client.check(DIGEST, TAGGED, "b")) == expected


async def test_what_a_check_tells() -> None:
    rows = [
        finding("warn", trigger_id="w"),
        finding("GO", trigger_id="g"),
        finding("stop", trigger_id="pardoned", allowlisted=True),
        finding("STOP", trigger_id="s"),
    ]
    async with client_of(always(200, checked(evaluated("fail", *rows)))) as (client, _):
        found = await client.check(DIGEST, TAGGED, "b")
    assert (found.result, found.is_mapped, found.content) == (Result.FAIL, True, POLICY)
    assert [(each.action, each.trigger_id) for each in found.reasons] == [("warn", "w"), ("stop", "s")]
    expected = Reason(
        gate="vulnerabilities", trigger="package", action="stop", text="CVE-1 in ssl", trigger_id="s"
    )
    assert found.reasons[1] == expected


async def test_an_image_on_the_list_of_allowed_ones_has_no_reasons() -> None:
    answer = checked(evaluated("pass", finding(), image_allowlisted=True, final_action_reason="allowlisted"))
    async with client_of(always(200, answer)) as (client, _):
        assert (await client.check(DIGEST, TAGGED, "b")).reasons == ()


async def test_what_kept_a_policy_from_being_evaluated_is_said() -> None:
    answer = checked(evaluated(evaluation_problems=[problem("warn"), problem("error")]))
    async with client_of(always(200, answer)) as (client, _):
        with pytest.raises(ScanFailed, match=r"not evaluated: unavailable no feed$"):
            await client.check(DIGEST, TAGGED, "b")


# The policies.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], "bundles active=None of 0"),
        (
            [{"policy_id": "a", "active": False}, {"policy_id": "b", "active": True, "policy": None}],
            "bundles active=b of 2",
        ),
        ({"items": []}, NOT_UNDERSTOOD),
        ([{"policyId": "a", "active": True}], NOT_UNDERSTOOD),
        ([{"policy_id": "a", "policy": []}], NOT_UNDERSTOOD),
    ],
)
async def test_answers_to_the_policies(body: Any, expected: str) -> None:
    async with client_of(always(200, body)) as (client, journal):
        assert await outcome(client.bundles()) == expected
    assert journal[0].query == {"detail": "true"}
