"""From Anchore's evaluation to a verdict: a pure function of the answer, the settings and the time."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import msgspec

from services.scanner.anchore import Evaluation, Image
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


class Judged(NamedTuple):
    """What an evaluation comes to."""

    result: Result
    reasons: list[Reason]
    """What stops first."""
    is_unmapped: bool


def judge(found: Evaluation, on_unmapped: OnUnmapped) -> Judged:
    """What counts of an evaluation.

    Raises `ScanFailed` for a pass that does not tell whether a mapping matched: nobody knows what it is worth.
    """
    if found.result is Result.PASS and found.is_mapped is None:
        text = "the check passes without the detail that was asked for"
        raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)
    if found.result is Result.PASS and not found.is_mapped:
        result = Result(on_unmapped.value)
        return Judged(result, [_unmapped(result)], is_unmapped=True)
    return Judged(found.result, sorted(found.reasons, key=_severity), is_unmapped=False)


def verdict(
    request: ScanRequest,
    image: Image,
    found: Evaluation,
    *,
    bundle_hash: str,
    is_mutable: bool,
    previous: Verdict | None,
    rules: Rules,
    now: datetime,
) -> Verdict:
    """The verdict; `now` is when the reference was resolved. Raises `ScanFailed` as `judge` does."""
    judged = judge(found, rules.on_unmapped)
    result, reasons = judged.result, judged.reasons
    lifetimes = rules.lifetimes
    fresh = lifetimes.passed if result is Result.PASS else lifetimes.failed
    fresh = min(fresh, lifetimes.tag) if is_mutable else fresh
    return Verdict(
        tenant=request.tenant,
        image=request.image,
        digest=image.digest,
        list_digest=image.list_digest,
        bundle_id=request.bundle_id,
        bundle_hash=bundle_hash,
        result=result,
        evaluated_at=now,
        fresh_until=now + timedelta(seconds=fresh),
        known_until=now + timedelta(seconds=max(fresh, lifetimes.known)),
        failing_since=_failing_since(result, image.digest, previous, now),
        unchanged_since=_unchanged_since(result, previous, now),
        reasons=tuple(_cut(reason) for reason in reasons[:MAX_REASONS]),
        reasons_total=len(reasons),
        unmapped=judged.is_unmapped,
    )


def _severity(reason: Reason) -> int:
    """What stops stands first: the rest may be cut off."""
    return _ORDER.get(reason.action, 2)


def _unmapped(result: Result) -> Reason:
    text = "no mapping of the bundle matches the image: give the bundle a catch-all mapping"
    action = "stop" if result is Result.FAIL else "warn"
    return Reason(gate="bundle", trigger="mappings", action=action, text=text)


def _cut(reason: Reason) -> Reason:
    """However much Anchore says: a verdict stays below the limit of a message."""
    return Reason(
        gate=reason.gate[:MAX_NAME],
        trigger=reason.trigger[:MAX_NAME],
        action=reason.action[:MAX_NAME],
        text=reason.text[:MAX_TEXT],
        trigger_id=reason.trigger_id[:MAX_ID],
    )


def _failing_since(result: Result, digest: str, previous: Verdict | None, now: datetime) -> datetime | None:
    if result is Result.PASS:
        return None
    if previous and previous.result is Result.FAIL and previous.digest == digest:
        return previous.failing_since or previous.evaluated_at
    return now


def _unchanged_since(result: Result, previous: Verdict | None, now: datetime) -> datetime:
    """Of this key, whichever digest: that a tag means another image does not turn its verdict."""
    if previous is None or previous.result is not result:
        return now
    return previous.unchanged_since or previous.evaluated_at
