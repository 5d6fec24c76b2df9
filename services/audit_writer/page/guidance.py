"""What a state means, and what to do next, in words for somebody who is woken by it. Pure.

Commands are to be copied into a shell: whatever a stranger has named his image is quoted.
"""

import shlex

import msgspec

from shared.contracts import Outcome
from shared.crds import Audit, AuditState

MEANINGS = {
    AuditState.DEGRADED: "runs, and has failed its policy since it was let in",
    AuditState.REJECTED: "was refused: no new Pod of it comes",
    AuditState.UNVERIFIED: "runs an image that is not the one that was judged",
    AuditState.OBSERVED: "ran before Moorgate looked, and was never let in by it",
    AuditState.ADMITTED: "was let in, and nothing has changed since",
}
"""After the workload's name."""

_LONGEST = 512
_MAX_CHECKS = 5


class Step(msgspec.Struct, frozen=True):
    """One thing to do."""

    text: str
    command: str


def steps(audit: Audit) -> tuple[Step, ...]:
    """What to do about it, the first first."""
    namespace, name = audit.metadata.namespace, audit.metadata.name
    explain = Step(
        "Ask for the whole story: what was decided, how it stands now, and what would let it in",
        _command("moorgate", "explain", f"audit/{name}", "--namespace", namespace),
    )
    record = Step(
        "See the record itself",
        _command("kubectl", "--namespace", namespace, "get", "audit", name, "-o", "yaml"),
    )
    return (explain, *_checks(audit), *_letting_in(audit), record)


def _checks(audit: Audit) -> tuple[Step, ...]:
    """What Anchore says now of what does not pass."""
    passing = {Outcome.PASS.value, Outcome.NOT_ASKED.value}
    images = dict.fromkeys(each.image for each in audit.spec.images if each.verdict not in passing)
    return tuple(
        Step(
            "See every finding of the image, as Anchore knows them now", _command("moorgate", "check", image)
        )
        for image in list(images)[:_MAX_CHECKS]
    )


def _letting_in(audit: Audit) -> tuple[Step, ...]:
    """For who must; what runs already needs no letting in until its next Pod."""
    if audit.status.state not in (AuditState.REJECTED, AuditState.DEGRADED):
        return ()
    what = "Let new Pods of it in" if audit.status.state is AuditState.DEGRADED else "Let it in"
    words = ("moorgate", "whitelist", "add", audit.spec.release_name, "--namespace", audit.metadata.namespace)
    return (
        Step(
            f"{what} for a day, with a reason that others will read",
            f"{_command(*words, '--for', '24h', '--reason')} '…'",
        ),
    )


def _command(*words: str) -> str:
    return " ".join(shlex.quote(_plain(word)) for word in words)


def _plain(text: str) -> str:
    """On one line, without characters that a terminal acts on."""
    return "".join(each if each.isprintable() else "?" for each in text[:_LONGEST])
