"""What was found out about an image, and findings kept for the next admission of the same image.

A fresh verdict that nobody doubts weighs the same for hours: decoding and weighing it anew was most of what an
admission cost. What is kept is evidence, never a decision: whitelist, mode and policy are applied afresh each time,
and a verdict, scan state or tenant's record that is not the very same any more ends it.
"""

from datetime import datetime

import msgspec

from shared.buckets import Entry
from shared.contracts import TenantRecord
from shared.evidence import Evidence, Known, holds_until
from shared.images import ImageReference
from shared.policies import Rule
from shared.subjects import verdict_key
from shared.verdict_store import VerdictMirror

MAX_HELD = 4096
"""Findings kept for the next admission of the same image: more than a cluster starts at once."""


class Question(msgspec.Struct, frozen=True):
    """One image that wants a verdict."""

    reference: ImageReference
    rule: Rule
    is_worth_waiting: bool
    """The answer can depend on the verdict."""


class Finding(msgspec.Struct, frozen=True):
    """The answer to a question, with the bundle it was resolved to (empty: none could be)."""

    evidence: Evidence
    bundle_id: str
    is_put_back: bool = False
    """Its namespace has asked for too many never-seen images: nobody was asked."""


class _Held(msgspec.Struct, frozen=True):
    """A finding that stays as it is while the verdict and the tenant's record are these very ones."""

    finding: Finding
    entry: Entry
    record: TenantRecord
    until: datetime


class HeldFindings:
    """The latest of them, by verdict key, the oldest first."""

    def __init__(self, mirror: VerdictMirror) -> None:
        self._mirror = mirror
        self._held: dict[str, _Held] = {}

    def all_of(self, questions: list[Question], now: datetime) -> list[Finding] | None:
        """A finding for each question; None where only one of them has to be weighed."""
        found = []
        for question in questions:
            finding = self._of(question, now)
            if finding is None:
                return None
            found.append(finding)
        return found

    def keep(self, key: str, question: Question, known: Known, finding: Finding) -> None:
        """Keep a finding, if it is one that lasts."""
        entry, record = self._mirror.verdicts.get(key), self._mirror.tenant(question.rule.tenant)
        until = holds_until(known, finding.evidence)
        if until is None or entry is None or record is None:
            return
        self._held.pop(key, None)
        if len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
        self._held[key] = _Held(finding, entry, record, until)

    def _of(self, question: Question, now: datetime) -> Finding | None:
        rule = question.rule
        record = self._mirror.tenant(rule.tenant)
        if record is None:
            return None
        bundle_id = rule.bundle_id or record.active_bundle_id or ""
        key = verdict_key(rule.tenant, bundle_id, str(question.reference))
        held = self._held.get(key)
        if held is None or held.record is not record or now >= held.until:
            return None
        is_same = self._mirror.verdicts.get(key) is held.entry and self._mirror.states.get(key) is None
        return held.finding if is_same else None
