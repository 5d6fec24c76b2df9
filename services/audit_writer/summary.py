"""An Audit at a glance: the labels it is selected by, and the columns that `kubectl get audits` shows.

A column cannot join the items of a list, so what people are to read stands in fields of its own. All of it
follows from spec, state and owner, and every write goes through `with_summary`: whoever changes an Audit
need not think of it. Names of images are cut at their beginning, visibly: a registry that is left out must
not pass for none. Pure, like audit.py.
"""

import re

import msgspec

from shared import crds
from shared.contracts import Outcome, Reason
from shared.crds import Audit, AuditImage, AuditSummary

DERIVED_LABELS = frozenset({crds.ACTION_LABEL, crds.STATE_LABEL, crds.OWNED_LABEL, crds.COMPLETE_LABEL})

MAX_IMAGE, MAX_POLICY, MAX_FINDING, MAX_REASON = 40, 32, 40, 120
"""Characters of an image's and a policy's name, a finding's, and a reason: what a wide screen bears."""

_LOOKED_AT = 512
"""Characters of a text that are looked at for a column: a Pod's texts may be long."""

_WITHOUT_VERDICT = frozenset({Outcome.PENDING.value, Outcome.ERROR.value})
_WEIGHTS = {Outcome.FAIL: 0, Outcome.ERROR: 1, Outcome.PENDING: 2, Outcome.PASS: 4, Outcome.NOT_ASKED: 5}
_EXCUSED = 3
"""Weight of what a whitelist or a grace let in: more than a pass, less than what counts against a Pod."""

_WORDS = {
    Outcome.PASS: "passed",
    Outcome.FAIL: "failed",
    Outcome.PENDING: "pending",
    Outcome.ERROR: "unchecked",
    Outcome.NOT_ASKED: "not asked",
}
_FINDING = re.compile(r"\b(?:CVE-\d{4}-\d+|GHSA(?:-[0-9a-z]{4}){3}|[A-Z]{3,5}-\d{4}[-:]\d+)\b")
_DIGEST = re.compile(r"@sha256:([0-9a-f]{12})[0-9a-f]{52}$")


def with_summary(audit: Audit) -> Audit:
    """`audit` with the labels and columns that follow from the rest of it."""
    labels = audit.metadata.labels | {
        crds.ACTION_LABEL: audit.spec.action,
        crds.STATE_LABEL: audit.status.state.value,
        crds.OWNED_LABEL: str(bool(audit.metadata.owner_references)).lower(),
        crds.COMPLETE_LABEL: str(is_complete(audit)).lower(),
    }
    return msgspec.structs.replace(
        audit,
        metadata=msgspec.structs.replace(audit.metadata, labels=labels),
        status=msgspec.structs.replace(audit.status, summary=summary(audit)),
    )


def is_complete(audit: Audit) -> bool:
    """False where something was let in of which no verdict is known: its record is to be completed."""
    if audit.spec.action != "allowed":
        return True
    return not any(image.verdict in _WITHOUT_VERDICT for image in audit.spec.images)


def summary(audit: Audit) -> AuditSummary:
    """The columns; of images that stand in several containers one counts."""
    by_weight = sorted(audit.spec.images, key=weight)
    images = list({each.image: each for each in reversed(by_weight)}.values())[::-1]
    if not images:
        return AuditSummary()
    policies = list(dict.fromkeys(each.policy or "default" for each in images))
    return AuditSummary(
        images=_and_more(_short(images[0].image), len(images)),
        result=_result(images),
        reason=_plain(_reason(images[0]), MAX_REASON),
        policy=_and_more(_plain(policies[0], MAX_POLICY), len(policies)),
    )


def _result(images: list[AuditImage]) -> str:
    """`passed`, `2 of 3 failed: CVE-2026-0001`, `unchecked: image_not_found`."""
    worst = images[0]
    alike = sum(each.verdict == worst.verdict and weight(each) == weight(worst) for each in images)
    words = _WORDS[Outcome(worst.verdict)]
    if len(images) > 1:
        words = f"all {alike} {words}" if alike == len(images) else f"{alike} of {len(images)} {words}"
    if worst.whitelist_item:
        return f"{words}, whitelisted"
    if worst.grace_until:
        return f"{words}, in grace"
    if worst.verdict == Outcome.ERROR:
        return f"{words}: {_plain(worst.error.partition(':')[0], MAX_FINDING)}"
    findings = list(dict.fromkeys(finding(each) for each in worst.reasons))
    if worst.verdict != Outcome.FAIL or not findings:
        return words
    return f"{words}: {_plain(findings[0], MAX_FINDING)}{', …' if len(findings) > 1 else ''}"


def _reason(image: AuditImage) -> str:
    """Why it stands so, in a sentence."""
    if image.whitelist_item:
        return f"whitelisted by {image.whitelist_item}"
    if image.verdict == Outcome.FAIL and image.grace_until:
        return f"ran here before it failed: let in until {image.grace_until:%Y-%m-%d %H:%M}Z"
    if image.verdict == Outcome.FAIL and image.reasons:
        worst = image.reasons[0]
        return f"{worst.gate}/{worst.trigger}: {worst.text}"
    return image.error.rstrip(": ")


def finding(reason: Reason) -> str:
    """The finding's public name where it has one, else what fired."""
    named = _FINDING.search(reason.trigger_id) or _FINDING.search(reason.text)
    return named[0] if named else f"{reason.gate}/{reason.trigger}"


def weight(image: AuditImage) -> int:
    """What matters more sorts first."""
    excused = image.whitelist_item or image.grace_until
    least = _WEIGHTS[Outcome(image.verdict)]
    return _EXCUSED if excused and least < _EXCUSED else least


def _short(image: str) -> str:
    """The end of the name, with the beginning of its digest: `…/team/app:1.2@7f3a…`."""
    name = _plain(_DIGEST.sub(r"@\1…", image[-_LOOKED_AT:]), _LOOKED_AT)
    return name if len(name) <= MAX_IMAGE and len(image) <= _LOOKED_AT else f"…{name[1 - MAX_IMAGE :]}"


def _and_more(first: str, count: int) -> str:
    return f"{first}, +{count - 1} more" if count > 1 else first


def _plain(text: str, limit: int) -> str:
    """At most `limit` characters on one line, none that a terminal acts on."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[:_LOOKED_AT]).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
