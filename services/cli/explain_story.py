"""The story of a decision in words, and what would let an image in: what was recorded, and how it stands now.

The pure part of `moorgate explain`: values in, text out.
"""

import shlex
from datetime import datetime

import msgspec

from services.cli.check_text import finding_lines, verdict_lines
from services.cli.output import age, printable
from shared.contracts import Mode, Outcome, ScanError, ScanPending, ScanState, Verdict
from shared.crds import Audit, AuditImage
from shared.evidence import Ask, Evidence
from shared.policies import OnError, OnPending, Rule

_LINE, _LONGEST = 200, 400


class ImageStory(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One image: what was recorded, what judges it now, and what is known now."""

    container: str
    image: str
    recorded: AuditImage | None = None
    rule: Rule | None = None
    """None: the policies could not be read."""
    bundle_id: str = ""
    verdict: Verdict | None = None
    state: ScanState | None = None
    evidence: Evidence | None = None
    """What a gateway makes of these now; None: it could not be looked at."""
    whitelist_items: tuple[str, ...] | None = None
    """None: they could not be read."""
    advice: tuple[str, ...] = ()


class Story(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything there is to tell."""

    what: str
    namespace: str
    release: str
    audit: Audit | None
    images: tuple[ImageStory, ...]
    notes: tuple[str, ...] = ()
    """What could not be looked at."""


def advice(image: ImageStory, release: str, namespace: str) -> tuple[str, ...]:
    """What would let a Pod with this image in, now: the gateways' own evidence in words."""
    if image.whitelist_items:
        return (f"it is let in: WhiteListItem {', '.join(image.whitelist_items)} covers it",)
    if image.rule and image.rule.mode is not Mode.ENFORCE:
        return (f"it is let in whatever the verdict: mode {image.rule.mode}",)
    add = ("moorgate", "whitelist", "add", release, "--namespace", namespace, "--for", "24h", "--reason", "…")
    for_a_while = f"for a while: {_command(*add)}"
    if image.evidence is None:
        question = _command("moorgate", "check", image.image)
        return (f"its verdict is not known now: ask with {question}", for_a_while)
    return _by_evidence(image.evidence, image.rule, for_a_while)


def _by_evidence(evidence: Evidence, rule: Rule | None, for_a_while: str) -> tuple[str, ...]:
    match evidence.outcome:
        case Outcome.PASS:
            return ("it passes now: the next Pod is let in",)
        case Outcome.FAIL:
            return (f"an image without {_findings(evidence)} it", for_a_while)
        case Outcome.ERROR:
            if rule and rule.on_error is OnError.ALLOW:
                return ("it is let in without a verdict: onError allow",)
            return (f"mend what is the matter with it ({evidence.error}: see docs/scanning.md)", for_a_while)
        case _:
            return (_by_pending(evidence, rule),)


def _by_pending(evidence: Evidence, rule: Rule | None) -> str:
    if rule and rule.on_pending is OnPending.ALLOW:
        return "it is let in while it is scanned"
    if evidence.ask is Ask.WAIT:
        return "it is scanned when the next Pod asks for it: try again"
    return "wait until it is scanned, and try again"


def _findings(evidence: Evidence) -> str:
    reasons = evidence.verdict.reasons if evidence.verdict else ()
    stops = sum(each.action == "stop" for each in reasons)
    return "the finding above that stops" if stops == 1 else f"the {stops} findings above that stop"


def _command(*words: str) -> str:
    """To be copied into a shell: whatever a stranger has named his image."""
    return " ".join(word if word == "…" else shlex.quote(printable(word, _LINE)) for word in words)


def told(story: Story, now: datetime) -> str:
    """The story in words, printable line by line: names, images and findings are strangers' texts."""
    return "\n".join(_clean(line) for line in _lines(story, now))


def _clean(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip(" "))]
    return indent + printable(line, _LONGEST)


def _lines(story: Story, now: datetime) -> list[str]:
    lines = [f"{story.what} in namespace {story.namespace} (release {printable(story.release)})"]
    if story.audit is None:
        lines.append(
            "  no decision is recorded: none was taken yet, its scan is waited for, or nobody looked at it"
        )
    else:
        lines += [f"  {line}" for line in _recorded(story.audit, now)]
    for image in story.images:
        lines += ["", f"{image.container}: {printable(image.image, _LINE)}"]
        lines += [f"  {line}" for line in _image(image, now)]
    if story.notes:
        lines += ["", *(f"not looked at: {printable(note, _LINE)}" for note in story.notes)]
    return lines


def _recorded(audit: Audit, now: datetime) -> list[str]:
    spec, status = audit.spec, audit.status
    answer = "let in" if spec.action == "allowed" else "refused"
    when, who = age(status.decision.at, now), printable(spec.user)
    lines = [f"{answer} {when} ago, asked by {who}; state {status.state} (Audit {audit.metadata.name})"]
    if len(status.transitions) > 1:
        lines.append("before that:")
        ordered = sorted(status.transitions, key=lambda each: each.at, reverse=True)
        lines += [
            f"  {age(each.at, now)} ago {each.action}, {each.state}: {printable(each.message, _LINE)}"
            for each in ordered[1:]
        ]
    lines += [f"{each.type}: {printable(each.message, _LINE)}" for each in status.conditions]
    return lines


def _image(image: ImageStory, now: datetime) -> list[str]:
    lines = []
    if image.recorded:
        lines += ["then:", *(f"  {line}" for line in _then(image.recorded, now))]
    lines += ["now:", *(f"  {line}" for line in _now(image, now))]
    return [*lines, "what lets it in:", *(f"  {line}" for line in image.advice)]


def _then(recorded: AuditImage, now: datetime) -> list[str]:
    judged = f", judged {age(recorded.evaluated_at, now)} ago" if recorded.evaluated_at else ""
    lines = [f"{recorded.verdict}{judged}, by policy {recorded.policy or 'default'}"]
    if recorded.digest:
        lines.append(f"digest  {recorded.digest}")
    if recorded.bundle:
        lines.append(f"bundle  {printable(recorded.bundle)} (tenant {recorded.tenant})")
    if recorded.whitelist_item:
        lines.append(f"let in by WhiteListItem {recorded.whitelist_item}")
    if recorded.grace_until:
        lines.append(f"let in because it ran already: until {recorded.grace_until:%Y-%m-%d %H:%M} UTC")
    if recorded.error:
        lines.append(printable(recorded.error, _LINE))
    return lines + finding_lines(recorded.reasons)


def _now(image: ImageStory, now: datetime) -> list[str]:
    lines = []
    if image.rule:
        rule = image.rule
        by = f"ImagePolicy {rule.policy}" if rule.policy else "no ImagePolicy: the gateways' defaults"
        lines.append(
            f"judged by {by} (mode {rule.mode}, onPending {rule.on_pending}, onError {rule.on_error})"
        )
    if image.whitelist_items is not None:
        lines.append(f"whitelist: {', '.join(image.whitelist_items) or 'no item covers it'}")
    if image.verdict:
        lines.append(
            f"{image.verdict.result}{' (no longer known)' if image.verdict.known_until <= now else ''}"
        )
        lines += ["as then"] if _is_recorded(image) else verdict_lines(image.verdict, now)
    if isinstance(image.state, ScanPending):
        lines.append(f"being scanned for {age(image.state.since, now)}, attempt {image.state.attempt}")
    elif isinstance(image.state, ScanError):
        when = "asked again already" if image.state.until <= now else "asked again soon"
        lines.append(f"{image.state.error} ({when}): {printable(image.state.message, _LINE)}")
    elif image.verdict is None:
        lines.append("no verdict is known")
    return lines


def _is_recorded(image: ImageStory) -> bool:
    """Whether what is known now is what the record says."""
    then, now = image.recorded, image.verdict
    return (
        then is not None
        and now is not None
        and (then.digest, then.evaluated_at) == (now.digest, now.evaluated_at)
    )
