"""From an image and its rule to evidence: out of memory, or by a scan request and a bounded wait.

Asking never delays a known image: the request is published in the background, once for all admissions
of this process that want the same key; the stream refuses what other gateways have asked already. The
wait ends with the answer, with the first failing image, at the deadline, or at once when no scanner
looks again before it. A verdict that comes later still lands in the bucket, so the retry succeeds.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

from services.gateway.deadlines import Deadline
from services.gateway.findings import Finding, HeldFindings, Question
from services.gateway.metrics import GatewayMetrics
from services.gateway.scan_rates import ScanRates
from shared import logs
from shared.broker import Broker
from shared.contracts import ErrorClass, Outcome, ScanRequest
from shared.errors import Unavailable
from shared.evidence import Ask, Evidence, Known, weigh
from shared.policies import Rule
from shared.subjects import Lane, scan_subject, verdict_key
from shared.verdict_store import VerdictMirror

ASK_AGAIN = (0.05, 0.25)
"""Seconds until a refused request about a verdict that we hold is made again: an acknowledgement follows its verdict
within milliseconds."""


class Source(StrEnum):
    """Where the evidence came from: a label of the latency metric."""

    MEMORY = "memory"
    WAIT = "wait"
    FALLBACK = "fallback"


class _Search(msgspec.Struct, kw_only=True):
    """A question under way."""

    question: Question
    namespace: str
    bundle_id: str
    bundle_hash: str | None
    is_anchore_away: bool
    key: str
    asked_over: int | None = None
    asking: "asyncio.Task[None] | None" = None
    is_put_back: bool = False
    """Its namespace has asked for too many never-seen images: it is not asked for now."""


class VerdictLookup:
    """Answers questions from the mirror; asks the scanners for what it does not know."""

    def __init__(
        self, mirror: VerdictMirror, broker: Broker, rates: ScanRates, metrics: GatewayMetrics
    ) -> None:
        self._rates = rates
        self._mirror = mirror
        self._broker = broker
        self._metrics = metrics
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._again: set[asyncio.Task[None]] = set()
        self._held = HeldFindings(mirror)
        self._log = logs.logger("verdict_lookup")

    async def find(
        self, questions: list[Question], namespace: str, deadline: Deadline, trace: str
    ) -> tuple[list[Finding], Source]:
        """A finding for each question, in order, at the latest at the deadline."""
        now = datetime.now(UTC)
        if (held := self._held.all_of(questions, now)) is not None:  # nearly always
            return held, Source.MEMORY
        searches = [self._resolve(question, namespace) for question in questions]
        changed = asyncio.Event()
        findings = [self._look(search, changed.set, trace, now) for search in searches]
        if not self._is_worth_waiting(searches, findings, deadline):
            return findings, _source(findings, has_waited=False)
        keys = [search.key for search in searches if isinstance(search, _Search)]
        with self._mirror.watching(keys, changed):
            while self._is_worth_waiting(searches, findings, deadline):
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), deadline.remaining)
                changed.clear()
                now = datetime.now(UTC)
                findings = [self._look(search, changed.set, trace, now) for search in searches]
        findings = [self._settle(*pair) for pair in zip(searches, findings, strict=True)]
        return findings, _source(findings, has_waited=True)

    def _resolve(self, question: Question, namespace: str) -> "_Search | Finding":
        """The key to look under: "no bundle named" means the one that is active for the tenant."""
        rule = question.rule
        record = self._mirror.tenant(rule.tenant)
        if record is None and not self._mirror.tenants.ready.is_set():
            return _error(
                rule, ErrorClass.NATS_UNAVAILABLE, "NATS has not been reached since this gateway started"
            )
        if record is None:
            return _error(rule, ErrorClass.TENANT_UNKNOWN, f"no scanner has reported tenant {rule.tenant}")
        bundle_id = rule.bundle_id or record.active_bundle_id
        if not bundle_id:
            return _error(
                rule, ErrorClass.BUNDLE_UNKNOWN, f"tenant {rule.tenant} has no active policy bundle"
            )
        key = verdict_key(rule.tenant, bundle_id, str(question.reference))
        is_away = record.away_since is not None
        return _Search(
            question=question,
            namespace=namespace,
            bundle_id=bundle_id,
            bundle_hash=record.bundles.get(bundle_id),
            is_anchore_away=is_away,
            key=key,
        )

    def _look(
        self, search: "_Search | Finding", wake: Callable[[], None], trace: str, now: datetime
    ) -> Finding:
        """What is known now; asks where that is called for, once a search."""
        if isinstance(search, Finding):
            return search
        known = self._known(search, nobody_to_ask=not self._can_ask(search))
        evidence = weigh(known, now)
        if evidence.ask is not Ask.NO and search.asking is None and self._may_ask(search, evidence):
            search.asked_over = evidence.revision
            search.asking = self._ask(search, evidence.revision, trace)
            search.asking.add_done_callback(lambda _: wake())
        finding = Finding(evidence, search.bundle_id, search.is_put_back)
        self._held.keep(search.key, search.question, known, finding)
        return finding

    def _may_ask(self, search: _Search, evidence: Evidence) -> bool:
        """Never-seen references take a token of their namespace, once a search."""
        if search.is_put_back:
            return False
        is_new = evidence.revision == 0 and search.key not in self._asking
        search.is_put_back = is_new and not self._rates.take(search.namespace)
        if search.is_put_back:
            self._metrics.scans_put_back.inc()
        return not search.is_put_back

    def _settle(self, search: "_Search | Finding", finding: Finding) -> Finding:
        """At the end of a wait: a request that nobody has taken by then means that nobody can be asked."""
        if isinstance(search, Finding) or search.asking is None or search.asking.done():
            return finding
        if finding.evidence.outcome is Outcome.PENDING and search.question.is_worth_waiting:
            known = self._known(search, nobody_to_ask=True)
            return Finding(weigh(known, datetime.now(UTC)), search.bundle_id)
        return finding

    def _known(self, search: _Search, *, nobody_to_ask: bool) -> Known:
        return Known(
            reference=search.question.reference,
            stored=self._mirror.verdict(search.key),
            state=self._mirror.state(search.key),
            bundle_hash=search.bundle_hash,
            asked_over=search.asked_over,
            nobody_to_ask=nobody_to_ask,
            is_anchore_away=search.is_anchore_away,
        )

    def _can_ask(self, search: _Search) -> bool:
        has_failed = (
            search.asking is not None and search.asking.done() and search.asking.exception() is not None
        )
        return self._broker.is_connected and not has_failed

    def _ask(self, search: _Search, seen: int, trace: str) -> "asyncio.Task[None]":
        """The one request of this process for the key, already under way or new."""
        asking = self._asking.get(search.key)
        if asking is None:
            asking = asyncio.create_task(self._publish(search, seen, trace))
            self._asking[search.key] = asking
            asking.add_done_callback(lambda task: self._asked(search.key, task))
        return asking

    def _asked(self, key: str, task: "asyncio.Task[None]") -> None:
        del self._asking[key]
        if not task.cancelled() and (error := task.exception()):
            self._log.warning("scan_not_requested", key=key, error=str(error))

    async def _publish(self, search: _Search, seen: int, trace: str) -> None:
        """Raises `Unavailable`. A refused second request is as good as an accepted first one.

        Unless that first one has been answered by the very verdict we hold, and is only not acknowledged yet.
        """
        question = search.question
        request = ScanRequest(
            tenant=question.rule.tenant,
            image=str(question.reference),
            bundle_id=search.bundle_id,
            seen=seen,
            asked_at=datetime.now(UTC),
            asked_by=self._broker.source,
        )
        subject = scan_subject(Lane.ADMISSION, request.tenant, search.key)
        if not await self._offer(subject, request, trace) and seen:
            again = asyncio.create_task(self._offer_again(subject, request, trace))
            self._again.add(again)
            again.add_done_callback(self._again.discard)

    async def _offer(self, subject: str, request: ScanRequest, trace: str) -> bool:
        """False where a request of the same key waits already. Raises `Unavailable`."""
        if not self._broker.is_connected:
            raise Unavailable("nats", "not connected")
        is_taken = await self._broker.publish_unless_waiting(subject, request, trace)
        if is_taken:
            self._metrics.scan_requests.labels(Lane.ADMISSION.value).inc()
        return is_taken

    async def _offer_again(self, subject: str, request: ScanRequest, trace: str) -> None:
        with suppress(Unavailable):  # whoever waits finds that out by himself
            for pause in ASK_AGAIN:
                await asyncio.sleep(pause)
                if await self._offer(subject, request, trace):
                    return

    @staticmethod
    def _is_worth_waiting(
        searches: "list[_Search | Finding]", findings: list[Finding], deadline: Deadline
    ) -> bool:
        """Whether an answer that matters can still come in time."""
        if all(finding.evidence.outcome is not Outcome.PENDING for finding in findings):
            return False
        remaining = deadline.remaining
        if not remaining:
            return False
        horizon = datetime.now(UTC) + timedelta(seconds=remaining)
        is_open = False
        for search, finding in zip(searches, findings, strict=True):
            if isinstance(search, Finding) or not search.question.is_worth_waiting or search.is_put_back:
                continue
            evidence = finding.evidence
            if evidence.outcome is Outcome.FAIL:
                return False
            if evidence.outcome is Outcome.PENDING:
                is_open |= evidence.next_look is None or evidence.next_look < horizon
        return is_open


def _error(rule: Rule, error: ErrorClass, message: str) -> Finding:
    evidence = Evidence(outcome=Outcome.ERROR, error=error, error_message=message)
    return Finding(evidence, rule.bundle_id or "")


def _source(findings: list[Finding], *, has_waited: bool) -> Source:
    for finding in findings:
        if finding.evidence.is_stale_pass or finding.evidence.error is ErrorClass.NATS_UNAVAILABLE:
            return Source.FALLBACK
    return Source.WAIT if has_waited else Source.MEMORY
