"""What the answer says: a message that names image, gate, trigger, bundle and what to do next.

Bounded: a message within 1 KiB, at most five warnings of 256 characters (longer ones are cut by the API
server), and audit annotations for the API server's own audit log.
Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response
"""

import math
from datetime import datetime

from services.gateway.decision import Decision, Judged, Step
from services.gateway.workloads import Workload
from shared.contracts import ErrorClass, Outcome, Reason

MAX_MESSAGE = 1024
"""Bytes of `status.message`."""

_NAME, _IMAGE, _CONTAINER, _BUNDLE, _GATE, _TEXT = 128, 256, 63, 64, 48, 200
"""Bytes of each part of a message: together, with the words between, they leave room for what to do next."""

_ANNOTATION = 1024
"""Bytes of one audit annotation."""

MAX_WARNINGS, MAX_WARNING = 5, 256
"""Warnings an answer carries, and characters each may have."""

MIN_RETRY, MAX_RETRY = 2, 30
"""Seconds kubectl is asked to wait: half the age of the scan, so ten tries outlast a long analysis."""

_ERRORS = {
    ErrorClass.IMAGE_NOT_FOUND: "correct the reference, or push the image",
    ErrorClass.REGISTRY_UNAUTHORIZED: "give Anchore credentials for this registry",
    ErrorClass.REGISTRY_UNAVAILABLE: "try again; if it stays so, Anchore cannot reach the registry",
    ErrorClass.ANALYSIS_FAILED: "try again; if it stays so, Anchore cannot analyse this image",
    ErrorClass.ANALYSIS_TOO_SLOW: "try again; ask your platform team about Anchore's analysis queue",
    ErrorClass.UNSUPPORTED: "Anchore cannot analyse this kind of artifact: ask for a whitelist item",
    ErrorClass.ANCHORE_UNAUTHORIZED: "ask your platform team: Moorgate's Anchore credentials are refused",
    ErrorClass.ANCHORE_UNAVAILABLE: "try again; ask your platform team: Anchore does not answer",
    ErrorClass.ANCHORE_NOT_UNDERSTOOD: "ask your platform team: Anchore's answer was not understood",
    ErrorClass.BUNDLE_UNKNOWN: "ask your platform team: Anchore has no such policy bundle",
    ErrorClass.TENANT_UNKNOWN: "ask your platform team: no scanner serves this tenant",
    ErrorClass.BAD_REFERENCE: "correct the image reference",
    ErrorClass.NATS_UNAVAILABLE: "try again; ask your platform team: Moorgate's NATS is away",
}


def refusal(workload: Workload, decision: Decision, judged: list[Judged], now: datetime) -> str:
    """The message of a Pod that is not let in now."""
    worst = max(decision.steps)
    causes = [_cause(each, now) for each, step in zip(judged, decision.steps, strict=True) if step is worst]
    others = f" (and {len(causes) - 1} more images like it)" if len(causes) > 1 else ""
    verb = "is waiting for a scan" if worst is Step.DEFER else "is not admitted"
    return _cut(
        f"moorgate: {workload.kind} {_cut(workload.name, _NAME)} {verb}: {causes[0]}{others}", MAX_MESSAGE
    )


def warnings(decision: Decision, judged: list[Judged], cluster_wide: list[str], now: datetime) -> list[str]:
    """What whoever asked should know although the Pod is let in."""
    texts = [
        f"moorgate: allowed, but {_cause(each, now)}"
        for each, step in zip(judged, decision.steps, strict=True)
        if step is Step.WARN
    ]
    texts += [
        f"moorgate: WhiteListItem {name} counts in every namespace; give it spec.namespaces"
        for name in cluster_wide
    ]
    return _bounded(texts)


def forecast(workload: Workload, decision: Decision, judged: list[Judged], now: datetime) -> list[str]:
    """What the Pods of a workload would meet, as warnings: the workload itself is never refused."""
    return _bounded(
        [
            f"moorgate: Pods of this {workload.kind} "
            f"{'would wait' if step is Step.DEFER else 'would be refused'}: {_cause(each, now)}"
            for each, step in zip(judged, decision.steps, strict=True)
            if step >= Step.DEFER
        ]
    )


def annotations(decision: Decision, judged: list[Judged], source: str, now: datetime) -> dict[str, str]:
    """For the API server's audit log: the decision, and for each image what it rests on."""
    lines = {"decision": decision.action.value, "source": source}
    for number, each in enumerate(judged):
        evidence, verdict = each.evidence, each.evidence.verdict
        parts = [each.reference or _cut(each.image.image, _IMAGE), evidence.outcome.value]
        if verdict:
            age = int((now - verdict.evaluated_at).total_seconds())
            parts += (verdict.digest, f"bundle={each.bundle_id}", f"age={age}s")
        if each.whitelist_item:
            parts.append(f"whitelisted={each.whitelist_item}")
        if evidence.error:
            parts.append(f"error={evidence.error}")
        lines[f"image-{number}"] = _cut(" ".join(parts), _ANNOTATION)
    return lines


def retry_after(judged: list[Judged], now: datetime) -> int:
    """Seconds until it is worth asking again: grows with the age of the oldest scan."""
    ages = [
        (now - each.evidence.pending_since).total_seconds()
        for each in judged
        if each.evidence.outcome is Outcome.PENDING and each.evidence.pending_since
    ]
    return max(MIN_RETRY, min(MAX_RETRY, math.ceil(max(ages, default=0.0) / 2)))


def _cause(each: Judged, now: datetime) -> str:
    """One image, what is wrong with it and what to do."""
    container = f"{each.image.kind} {_cut(each.image.container, _CONTAINER)}"
    image = f"image {_cut(each.image.image, _IMAGE)} ({container})"
    evidence = each.evidence
    if evidence.is_stale_pass and evidence.verdict:
        age = int((now - evidence.verdict.evaluated_at).total_seconds())
        return f"{image} passed {age} s ago and nobody can be asked for a newer verdict"
    match evidence.outcome:
        case Outcome.FAIL if each.grace_until:
            until = each.grace_until.isoformat(timespec="minutes")
            return (
                f"{image} runs here already and is let in until {until}, though it fails: {_findings(each)}"
            )
        case Outcome.FAIL:
            return f"{image} fails policy bundle {_cut(each.bundle_id, _BUNDLE)}: {_findings(each)}"
        case Outcome.PENDING:
            since = int((now - evidence.pending_since).total_seconds()) if evidence.pending_since else 0
            return f"{image} is being scanned, for {since} s now; the scan goes on by itself, try again soon"
        case Outcome.ERROR if evidence.error:
            detail = f": {_cut(evidence.error_message, _TEXT)}" if evidence.error_message else ""
            return f"{image} has no verdict ({evidence.error}{detail}); {_ERRORS[evidence.error]}"
        case _:
            return f"{image} was not checked"


def _findings(each: Judged) -> str:
    verdict = each.evidence.verdict
    stops = [reason for reason in verdict.reasons if reason.action == "stop"] if verdict else []
    next_step = "; use an image without it, or ask for a WhiteListItem"
    if verdict is None or not stops:
        return f"stopped without a finding{next_step}"
    more = f" (and {len(stops) - 1} more findings)" if len(stops) > 1 else ""
    return f"{_finding(stops[0])}{more}{next_step}"


def _finding(reason: Reason) -> str:
    return f"{_cut(reason.gate, _GATE)}/{_cut(reason.trigger, _GATE)}: {_cut(reason.text, _TEXT)}"


def _bounded(texts: list[str]) -> list[str]:
    return [_cut(text, MAX_WARNING) for text in texts[:MAX_WARNINGS]]


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, on one line that no terminal takes for a command."""
    if len(text) <= limit and text.isascii() and text.isprintable() and _is_one_line(text):
        return text  # as nearly all are: the rest looks at each character
    start = text[: 4 * limit]  # a text of megabytes is not worth reading to its end
    line = " ".join("".join(each if each.isprintable() else " " for each in start).split())
    encoded = line.encode()
    if len(encoded) <= limit and len(start) == len(text):
        return line
    return encoded[: limit - 3].decode(errors="ignore") + "…"


def _is_one_line(text: str) -> bool:
    """Of printable characters: no blank but single ones between words."""
    return "  " not in text and text[:1] != " " and text[-1:] != " "
