"""A verdict in words, gate by gate and finding by finding: what `moorgate check` and `moorgate explain` print.

The pure part: values in, text out.
"""

from datetime import UTC, datetime
from itertools import groupby

from services.cli.output import age, printable, span
from shared.contracts import Outcome, Reason, Verdict, VerdictAnswer

_WORDS = {
    Outcome.PASS: "PASSES",
    Outcome.FAIL: "FAILS",
    Outcome.PENDING: "IS BEING SCANNED",
    Outcome.ERROR: "HAS NO VERDICT",
    Outcome.NOT_ASKED: "HAS NO VERDICT",
}
_ORDER = {"stop": 0, "warn": 1, "go": 2}
_LINE = 200


def report(image: str, answer: VerdictAnswer | None, trouble: str) -> str:
    """Everything about one image."""
    if answer is None:
        return f"{printable(image)}  HAS NO VERDICT\n  {printable(trouble, _LINE)}"
    now = datetime.now(UTC)
    lines = [f"{printable(answer.image, _LINE)}  {_WORDS[answer.outcome]}"]
    if answer.verdict:
        lines += [f"  {line}" for line in verdict_lines(answer.verdict, now)]
    if answer.is_stale:
        lines.append("  past its time: it counts only because nobody can be asked now")
    if answer.error:
        lines.append(f"  {answer.error}: {printable(answer.error_message, _LINE)}")
    if answer.outcome is Outcome.PENDING:
        since = f" since {age(answer.pending_since, now)}" if answer.pending_since else ""
        lines.append(f"  the scan goes on{since}: ask again, or with a longer --wait")
    if trouble:
        lines.append(f"  {printable(trouble, _LINE)}")
    return "\n".join(lines)


def verdict_lines(verdict: Verdict, now: datetime) -> list[str]:
    """Digest, bundle, ages, and the findings of each gate."""
    lines = [f"digest  {printable(verdict.digest)}"]
    if verdict.list_digest != verdict.digest:
        lines.append(f"list    {printable(verdict.list_digest)}")
    lines.append(f"bundle  {printable(verdict.bundle_id)} (tenant {printable(verdict.tenant)})")
    fresh = (verdict.fresh_until - now).total_seconds()
    until = f"fresh for {span(fresh)}" if fresh > 0 else "no longer fresh"
    failing = f", failing for {age(verdict.failing_since, now)}" if verdict.failing_since else ""
    lines.append(f"judged  {age(verdict.evaluated_at, now)} ago, {until}{failing}")
    if verdict.unmapped:
        lines.append("        no mapping of the bundle matches this image (MOORGATE_ON_UNMAPPED decides)")
    return [*lines, *finding_lines(verdict.reasons, verdict.reasons_total)]


def finding_lines(reasons: tuple[Reason, ...], total: int = 0) -> list[str]:
    """Gate by gate, what stops first."""
    lines = []
    ordered = sorted(reasons, key=lambda each: each.gate)
    gates = [(gate, list(found)) for gate, found in groupby(ordered, key=lambda each: each.gate)]
    gates.sort(key=lambda pair: min(_rank(each) for each in pair[1]))
    for gate, found in gates:
        lines.append(f"gate {printable(gate)}")
        lines += [
            f"  {printable(each.action):<5} {printable(each.trigger)}: {printable(each.text, _LINE)}"
            for each in sorted(found, key=_rank)
        ]
    if total > len(reasons):
        lines.append(f"… and {total - len(reasons)} more findings: Anchore has them all")
    return lines


def waiting(image: str, answer: VerdictAnswer | None, trouble: str, seconds: float) -> str:
    """One line of progress."""
    if trouble:
        return f"{printable(image)}: {printable(trouble)}; asking again ({span(seconds)})"
    where = f", {answer.digest[:19]}" if answer and answer.digest else ", looked for"
    return f"{printable(image)}: being scanned ({span(seconds)}{where})"


def _rank(reason: Reason) -> int:
    return _ORDER.get(reason.action, len(_ORDER))
