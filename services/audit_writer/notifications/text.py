"""A flip in sentences: what, where, since when, what is new, what to do. Pure: an event in, texts out.

Whoever deploys chooses the names of images and releases, and findings quote what is inside an image. All
of it goes through `quote` of the target's form, with everything invisible (line breaks, characters that
turn the direction of writing) made a blank and its length bounded: it cannot pose as Moorgate's own words.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from shared.contracts import FlipCause, Reason, Result, VerdictFlipped

Quote = Callable[[str], str]
"""Puts a foreign text into a target's form, so that it is nothing but a text there."""

SHOWN_FINDINGS, SHOWN_WORKLOADS = 8, 5
"""How many are named; the Audit has the rest."""

MAX_IMAGE, MAX_NAME, MAX_FINDING = 300, 80, 220
"""Characters kept of a foreign text."""

_DIGEST_SHOWN = 19
"""Characters: `sha256:` and the twelve that tools show."""

_VULNERABILITY = re.compile(r"\b(?:CVE-\d{4}-\d{4,}|GHSA(?:-[0-9a-z]{4}){3})\b")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")

_WHY = {
    FlipCause.FEED: "what is known of the image has changed",
    FlipCause.BUNDLE: "the policy bundle has changed",
    FlipCause.POLICY: "another policy, bundle or tenant judges the image now",
    FlipCause.TAG: "the tag means another image now",
}


class Notice(msgspec.Struct, frozen=True):
    """What a person is told, line by line."""

    headline: str
    facts: tuple[str, ...]
    findings: tuple[str, ...]
    """A heading and one line each; empty where none are known."""
    advice: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything after the headline."""
        return (*self.facts, *self.findings, *self.advice)


def notice(event: VerdictFlipped, cluster: str, quote: Quote) -> Notice:
    """The flip for a person to read. `cluster` is the operator's own word for this cluster, or empty."""
    turned = "fails its policy now" if event.result is Result.FAIL else "passes its policy again"
    release, namespace = quote(clean(event.release, MAX_NAME)), quote(clean(event.namespace, MAX_NAME))
    where = f"release {release} in namespace {namespace}" + (
        f" of cluster {quote(cluster)}" if cluster else ""
    )
    return Notice(
        headline=f"{quote(clean(event.image, MAX_IMAGE))} {turned}: {where}",
        facts=_facts(event, quote),
        findings=_findings(event, quote),
        advice=_advice(event, quote),
    )


def plain(text: str) -> str:
    """The `Quote` of a form without markup."""
    return text


def clean(text: str, limit: int) -> str:
    """One line of visible characters, at most `limit` of them."""
    # Four times the limit first: a text may be huge, and most of it will go.
    shown = "".join(each if each.isprintable() else " " for each in text[: 4 * limit])
    line = " ".join(shown.split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def fit(lines: Iterable[str], limit: int) -> str:
    """As many whole lines as `limit` characters hold: nothing is cut within, where it may be markup."""
    kept: list[str] = []
    left = limit
    for line in lines:
        if len(line) + 1 > left:
            break
        kept.append(line)
        left -= len(line) + 1
    return "\n".join(kept)


def _facts(event: VerdictFlipped, quote: Quote) -> tuple[str, ...]:
    judged = f"bundle {quote(clean(event.bundle_id, MAX_NAME))}, tenant {quote(event.tenant)}"
    if event.policy:
        judged += f", ImagePolicy {quote(clean(event.policy, MAX_NAME))}"
    workloads = _workloads(event, quote)
    return (
        f"Digest: {quote(clean(event.digest[:_DIGEST_SHOWN], MAX_NAME))}",
        *((f"Workloads: {workloads}",) if workloads else ()),
        f"Judged by: {judged}",
        f"Why now: {_WHY[event.cause]}",
        _since(event),
    )


def _workloads(event: VerdictFlipped, quote: Quote) -> str:
    named = [
        quote(f"{clean(each.kind, MAX_NAME)}/{clean(each.name, MAX_NAME)}")
        for each in event.workloads[:SHOWN_WORKLOADS]
    ]
    return ", ".join(named) + _and_more(max(event.workloads_total, len(event.workloads)) - len(named))


def _since(event: VerdictFlipped) -> str:
    if event.result is Result.FAIL:
        return f"Failing since: {_time(event.failing_since or event.flipped_at)}"
    before = f", after failing since {_time(event.failing_since)}" if event.failing_since else ""
    return f"Passing since: {_time(event.flipped_at)}{before}"


def _findings(event: VerdictFlipped, quote: Quote) -> tuple[str, ...]:
    if not event.new_reasons:
        return ()
    heading = "New findings:" if event.result is Result.FAIL else "Findings that are gone:"
    shown = tuple(f"• {_finding(each, quote)}" for each in event.new_reasons[:SHOWN_FINDINGS])
    more = _and_more(len(event.new_reasons) - len(shown))
    return (heading, *shown, *((f"•{more}",) if more else ()))


def _finding(reason: Reason, quote: Quote) -> str:
    """The vulnerability or else the gate and trigger by name, then Anchore's words."""
    known = _VULNERABILITY.search(reason.trigger_id[:MAX_FINDING]) or _VULNERABILITY.search(reason.text)
    name = known[0] if known else f"{reason.gate}/{reason.trigger}"
    return f"{quote(clean(name, MAX_NAME))}: {quote(clean(reason.text, MAX_FINDING) or 'no text')}"


def _advice(event: VerdictFlipped, quote: Quote) -> tuple[str, ...]:
    look = _look(event)
    if event.result is Result.PASS:
        return ("Nothing to do: this image keeps no new Pods out any more.",)
    item = f"a WhiteListItem named {quote(clean(event.release, MAX_NAME))}"
    return (
        "What runs goes on running; where the policy is enforced, new Pods with this image are refused.",
        "What to do: rebuild the image so that it passes, or roll the release back to one that does.",
        *((f"Look closer: {quote(look)}",) if look else ()),
        f"To accept it for a while: {item} with spec.reason and spec.expiresAt.",
    )


def _look(event: VerdictFlipped) -> str:
    """A command to copy; none where a name is not one of Kubernetes' own: it may be meant for a shell."""
    name = event.workloads[0].audit if event.workloads else ""
    if not _OBJECT_NAME.fullmatch(event.namespace) or not _OBJECT_NAME.fullmatch(name):
        return ""
    return f"kubectl -n {event.namespace} get audit {name} -o yaml"


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
