"""From Anchore's evaluation to a verdict: a pure function of the answer, the settings and the time."""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from services.scanner.anchore_api import Evaluation, EvaluationResult, GateResult, ImageRecord
from services.scanner.failures import ScanFailed
from shared.contracts import MAX_REASONS, ErrorClass, Reason, Result, ScanRequest, Verdict

MAX_TEXT = 400
"""Characters kept of one finding's text."""

MAX_ID, MAX_NAME = 200, 100
"""Characters kept of a finding's id, and of its gate and trigger: a verdict stays below the limit of a message."""

_ORDER = {"stop": 0, "warn": 1}


class OnUnmapped(StrEnum):
    """What it means that no mapping of the bundle matches an image; Anchore itself says `pass`."""

    PASS = "pass"  # noqa: S105  a verdict, no password
    FAIL = "fail"


class Lifetimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long verdicts are fresh and known, in seconds."""

    passed: float
    failed: float
    tag: float
    """At most so long fresh through a tag, which can be moved."""
    known: float


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say about evaluations."""

    lifetimes: Lifetimes
    on_unmapped: OnUnmapped


def verdict(
    request: ScanRequest,
    image: ImageRecord,
    evaluation: Evaluation,
    *,
    bundle_hash: str,
    is_mutable: bool,
    previous: Verdict | None,
    rules: Rules,
    now: datetime,
) -> Verdict:
    """The verdict; `now` is when the reference was resolved.

    Raises `ScanFailed` for a status nobody knows, and for a pass without detail: whether a mapping matched
    stands there.
    """
    result = _result(evaluation)
    if result is Result.PASS and evaluation.detail.result is None:
        text = "the check passes without the detail that was asked for"
        raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)
    detail = evaluation.detail.result or EvaluationResult()
    unmapped = result is Result.PASS and _is_unmapped(detail)
    if unmapped:
        result = Result(rules.on_unmapped.value)
    reasons = [_unmapped(result)] if unmapped else _reasons(detail)
    reasons.sort(key=lambda reason: _ORDER.get(reason.action, 2))
    lifetimes = rules.lifetimes
    fresh = lifetimes.passed if result is Result.PASS else lifetimes.failed
    fresh = min(fresh, lifetimes.tag) if is_mutable else fresh
    return Verdict(
        tenant=request.tenant,
        image=request.image,
        digest=image.image_digest,
        list_digest=image.list_digest,
        bundle_id=request.bundle_id,
        bundle_hash=bundle_hash,
        result=result,
        evaluated_at=now,
        fresh_until=now + timedelta(seconds=fresh),
        known_until=now + timedelta(seconds=max(fresh, lifetimes.known)),
        failing_since=_failing_since(result, image.image_digest, previous, now),
        reasons=tuple(reasons[:MAX_REASONS]),
        reasons_total=len(reasons),
        unmapped=unmapped,
    )


def _result(evaluation: Evaluation) -> Result:
    try:
        return Result(evaluation.status.lower())
    except ValueError:
        raise ScanFailed(
            ErrorClass.ANCHORE_NOT_UNDERSTOOD, f"the check's status is {evaluation.status!r}"
        ) from None


def _is_unmapped(detail: EvaluationResult) -> bool:
    return detail.matched_mapping_rule is False and not detail.matched_whitelisted_images_rule


def _unmapped(result: Result) -> Reason:
    text = "no mapping of the bundle matches the image: give the bundle a catch-all mapping"
    action = "stop" if result is Result.FAIL else "warn"
    return Reason(gate="bundle", trigger="mappings", action=action, text=text)


def _reasons(detail: EvaluationResult) -> list[Reason]:
    if detail.final_action_reason == "blacklisted":
        rule = detail.matched_blacklisted_images_rule
        name = rule.get("name", "") if isinstance(rule, dict) else ""
        text = f"the image is on the bundle's list of refused images ({name})"
        return [Reason(gate="bundle", trigger="blacklisted_images", action="stop", text=text[:MAX_TEXT])]
    is_whitelisted = detail.final_action_reason == "whitelisted"
    return [
        reason
        for each in detail.result.values()
        if isinstance(each, GateResult)
        for row in each.result.rows
        if (
            reason := _reason(dict(zip(each.result.header, row, strict=False)), is_whitelisted=is_whitelisted)
        )
    ]


def _reason(row: dict[str, object], *, is_whitelisted: bool) -> Reason | None:
    """One row of the table; rows that lead to nothing (`go`) are left out."""
    action = str(row.get("Gate_Action", "")).lower()
    if action == "go" or is_whitelisted or row.get("Whitelisted"):
        return None
    return Reason(
        gate=str(row.get("Gate", ""))[:MAX_NAME],
        trigger=str(row.get("Trigger", ""))[:MAX_NAME],
        action=action[:MAX_NAME],
        text=str(row.get("Check_Output", ""))[:MAX_TEXT],
        trigger_id=str(row.get("Trigger_Id", ""))[:MAX_ID],
    )


def _failing_since(result: Result, digest: str, previous: Verdict | None, now: datetime) -> datetime | None:
    if result is Result.PASS:
        return None
    if previous and previous.result is Result.FAIL and previous.digest == digest:
        return previous.failing_since or previous.evaluated_at
    return now
