"""What other tools are told of an image: found as for an admission, bounded so that no admission waits for it.

question → tenant, image, bundle → memory, or a scan request and a bounded wait → answer

No policy, whitelist or mode applies: these belong to a namespace, and a question has none. An asker's never-seen
images count as those of one namespace a tenant. What cannot be answered is refused with a code, as HTTP has it.
"""

import asyncio
import re
import time
from collections import Counter

from services.gateway.deadlines import Deadline
from services.gateway.findings import Finding, Question
from services.gateway.scan_rates import Rate, ScanRates
from services.gateway.verdict_lookup import VerdictLookup
from shared import contracts, images
from shared.contracts import ErrorClass, Mode, VerdictAnswer, VerdictRequest
from shared.errors import BadImage, MoorgateError, Permanent
from shared.images import ImageReference
from shared.policies import OnError, OnPending, Rule

MAX_QUESTION = 4096
"""Bytes: an image reference has at most 1024 characters, and little else is asked."""

MAX_UNDER_WAY, MAX_OF_A_TENANT = 64, 32
"""Questions waiting at once; one more is refused at once. No tenant's tools can take the place of all others'."""

MAX_RATE = Rate(200, 1.0)
"""Questions taken by one gateway, known images or not: each costs about a millisecond that admissions lack."""

_TENANT = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)


class NoAnswer(MoorgateError):
    """The question is refused; the text says why, in one line."""

    def __init__(self, code: int, message: str) -> None:
        """`code`: what HTTP would answer: 400, 404, 429 or 503."""
        super().__init__(message)
        self.code = code


class VerdictAnswers:
    """Answers questions, a bounded number at once."""

    def __init__(self, lookup: VerdictLookup, rate: Rate = MAX_RATE) -> None:
        self._lookup = lookup
        self._rate = ScanRates(rate, time.monotonic)
        self._under_way: Counter[str] = Counter()
        """By tenant."""

    async def answer(self, tenant: str, payload: bytes, trace: str) -> VerdictAnswer:
        """The answer, at the latest when the asker stops waiting. Raises `NoAnswer`."""
        if not _TENANT.fullmatch(tenant):
            raise NoAnswer(400, "a tenant has 1 to 40 characters of a-z, 0-9 and -")
        if not self._rate.take("") or self._is_full(tenant):
            raise NoAnswer(429, "too many questions at once: ask again in a second")
        self._under_way[tenant] += 1
        try:
            return await self._find(tenant, payload, trace)
        finally:
            self._under_way[tenant] -= 1
            if not self._under_way[tenant]:
                del self._under_way[tenant]

    def _is_full(self, tenant: str) -> bool:
        return self._under_way.total() >= MAX_UNDER_WAY or self._under_way[tenant] >= MAX_OF_A_TENANT

    async def _find(self, tenant: str, payload: bytes, trace: str) -> VerdictAnswer:
        asked_at = asyncio.get_running_loop().time()
        request = _decoded(payload)
        reference = _parsed(request.image)
        question = Question(reference, _rule(tenant, request.bundle_id), is_worth_waiting=True)
        deadline = Deadline(asked_at + min(request.timeout_seconds, contracts.MAX_ANSWER_WITHIN))
        [finding], _ = await self._lookup.find([question], f"asked/{tenant}", deadline, trace)
        if finding.evidence.error is ErrorClass.TENANT_UNKNOWN:
            raise NoAnswer(404, finding.evidence.error_message)
        if finding.is_put_back:
            raise NoAnswer(429, "too many images that were never seen (MOORGATE_SCAN_RATE): ask again later")
        return _answer(tenant, reference, finding)


def _answer(tenant: str, reference: ImageReference, finding: Finding) -> VerdictAnswer:
    evidence = finding.evidence
    return VerdictAnswer(
        tenant=tenant,
        image=str(reference),
        bundle_id=finding.bundle_id,
        outcome=evidence.outcome,
        verdict=evidence.verdict,
        is_stale=evidence.is_stale_pass,
        digest=evidence.verdict.digest if evidence.verdict else evidence.digest,
        pending_since=evidence.pending_since,
        next_look=evidence.next_look,
        error=evidence.error,
        error_message=evidence.error_message,
    )


def _decoded(payload: bytes) -> VerdictRequest:
    if len(payload) > MAX_QUESTION:
        raise NoAnswer(400, f"a question has at most {MAX_QUESTION} bytes")
    try:
        return contracts.decode(payload, contracts.VERDICT_REQUEST)
    except Permanent as error:
        raise NoAnswer(400, f'{error}; send {{"image": "…"}}') from error


def _parsed(image: str) -> ImageReference:
    try:
        return images.parse(image)
    except BadImage as error:
        raise NoAnswer(400, str(error)) from error


def _rule(tenant: str, bundle_id: str) -> Rule:
    """A verdict is wanted, whatever a decision would make of it."""
    return Rule(
        mode=Mode.ENFORCE,
        on_pending=OnPending.RETRY,
        on_error=OnError.DENY,
        tenant=tenant,
        bundle_id=bundle_id or None,
    )
