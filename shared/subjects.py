"""Every subject, stream, durable and bucket, and the one function that makes each name.

Nobody else writes a subject. The names are a contract: other tools build on them.
"""

import functools
import hashlib
from enum import StrEnum

SCANS = "MOORGATE_SCANS"
"""Work queue of scan requests: at most one message a subject, so one scan a key."""
EVENTS = "MOORGATE_EVENTS"
"""What happened: decisions and flips, for the audit-writer and other tools."""
DEAD = "MOORGATE_DEAD"
"""Messages that no repetition would help, with the reason."""

VERDICTS = "moorgate_verdicts"
SCAN_STATES = "moorgate_scan_states"
TENANTS = "moorgate_tenants"
RUNNING = "moorgate_running"

SCAN_SUBJECTS = "moorgate.v1.scan.*.*.*"
EVENT_SUBJECTS = "moorgate.v1.event.>"
DECISION_SUBJECTS = "moorgate.v1.event.decision.*"
FLIP_SUBJECTS = "moorgate.v1.event.verdict.*"
DEAD_SUBJECTS = "moorgate.v1.dead.>"
QUESTION_SUBJECTS = "moorgate.v1.verdict.*"

QUESTION_SERVICE = "moorgate-verdict"
"""Name of the gateways' micro service, and of its queue group: one of them answers."""

AUDIT_WRITER = "audit-writer"
"""The durable of all audit-writers on `EVENTS`."""


class Lane(StrEnum):
    """Which queue a scan request waits in; neither can delay the other."""

    ADMISSION = "admission"
    RESCAN = "rescan"


@functools.lru_cache(maxsize=16384)
def verdict_key(tenant: str, bundle_id: str, reference: str) -> str:
    """Key of a verdict and of its scan state: one image under one bundle for one tenant.

    `reference` is normalised (`str(ImageReference)`). Hashes keep any text a user can type out of
    the key's grammar.
    """
    return f"{tenant}.{_hex(bundle_id)[:16]}.{_hex(reference)}"


def scan_subject(lane: Lane, tenant: str, key: str) -> str:
    """Subject of the scan of `key`; the stream holds one message a subject, so this dedupes."""
    return f"moorgate.v1.scan.{lane}.{tenant}.{_hex(key)}"


def lane_subjects(lane: Lane, tenant: str) -> str:
    """All scans of one tenant in one lane."""
    return f"moorgate.v1.scan.{lane}.{tenant}.*"


def lane_durable(lane: Lane, tenant: str) -> str:
    """The durable consumer of one tenant's lane."""
    return f"scan-{lane}-{tenant}"


def running_key(namespace: str, digest: str) -> str:
    """Key of a digest that runs in a namespace; a digest's colon is no character of a key."""
    return f"{namespace}.{digest.replace(':', '-')}"


def decision_subject(namespace: str) -> str:
    """Where the decisions on a namespace's workloads are published."""
    return f"moorgate.v1.event.decision.{namespace}"


def flip_subject(result: str) -> str:
    """Where it is published that a verdict has turned to `pass` or `fail`."""
    return f"moorgate.v1.event.verdict.{result}"


def question_subject(tenant: str) -> str:
    """Where the gateways are asked for a verdict of one tenant."""
    return f"moorgate.v1.verdict.{tenant}"


def notifier_durable(target: str) -> str:
    """The durable of one target of notifications: a target that is down delays no other."""
    return f"notify-{target}"


def dead_subject(what: str) -> str:
    """Where messages of one kind (`scan`, `decision`) go when they cannot be worked on."""
    return f"moorgate.v1.dead.{what}"


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
