"""One scan request, from delivery to verdict, scan state or error.

read what is known → resolve the image at Anchore → still being analysed: pending, put off
                                                  → analysed: check exactly the bundle asked for → verdict

Dying anywhere is safe: nothing is acknowledged before the verdict or state is written, the verdict goes
only over the revision read at the start, and Anchore takes the same calls again. No worker waits for an
analysis: the delivery is given back with a growing delay.
"""

from datetime import UTC, datetime, timedelta

import msgspec

from services.scanner import delays, evaluation
from services.scanner.anchore_api import Evaluation, ImageRecord
from services.scanner.anchore_v1 import AnchoreV1
from services.scanner.bundles import Bundles
from services.scanner.evaluation import Rules
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.metrics import ScannerMetrics
from shared import images, logs
from shared.consumer import Delivery
from shared.contracts import ErrorClass, ScanError, ScanPending, ScanRequest, ScanState, Verdict
from shared.errors import BadImage, Conflict, Permanent, Retryable, Unavailable
from shared.images import ImageReference
from shared.verdict_store import VerdictBuckets

ANALYZED, ANALYSIS_FAILED = "analyzed", "analysis_failed"
NO_ANSWER = "Anchore gave no answer"
"""All that whoever creates a Pod is told: addresses and time-outs are for the scanner's log."""

UNDER_WAY = frozenset({"not_analyzed", "analyzing"})


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the buckets say when a scan begins."""

    verdict: Verdict | None
    revision: int
    state: ScanState | None
    state_revision: int


class Worker:
    """Scans for one tenant."""

    def __init__(
        self,
        *,
        tenant: str,
        anchore: AnchoreV1,
        buckets: VerdictBuckets,
        bundles: Bundles,
        rules: Rules,
        pending_limit: float,
        metrics: ScannerMetrics,
    ) -> None:
        """`pending_limit`: seconds an analysis may take."""
        self._tenant = tenant
        self._anchore = anchore
        self._buckets = buckets
        self._bundles = bundles
        self._rules = rules
        self._pending_limit = timedelta(seconds=pending_limit)
        self._metrics = metrics
        self._log = logs.logger("worker")

    async def scan(self, request: ScanRequest, delivery: Delivery) -> None:
        """Answer one request. Raises `Retryable`, `Unavailable`, `Permanent` (see shared/consumer.py)."""
        if request.tenant != self._tenant:
            raise Permanent(f"a request of tenant {request.tenant} in the lane of {self._tenant}")
        reference = _reference(request)
        with (
            logs.bind(key=request.key, image=request.image),
            self._metrics.scan_duration.labels("scan").time(),
        ):
            verdict, revision = await self._buckets.verdict(request.key)
            if verdict is not None and revision > request.seen:
                self._note("answered")
                return
            state, state_revision = await self._buckets.state(request.key)
            known = _Known(verdict=verdict, revision=revision, state=state, state_revision=state_revision)
            try:
                await self._scan(request, reference, known, delivery)
            except Conflict as conflict:  # another scanner has written the state since: look at it anew
                raise Retryable(str(conflict), delay=delays.FIRST_LOOK) from conflict

    async def _scan(
        self, request: ScanRequest, reference: ImageReference, known: _Known, delivery: Delivery
    ) -> None:
        now = datetime.now(UTC)
        try:
            bundle_hash = await self._bundles.content_hash(request.bundle_id)
            image = await self._resolve(reference, known.state)
            await self._must_be_analyzed(request, image, known, now)
            found = await self._check(request, reference, image, known, now)
            verdict = evaluation.verdict(
                request,
                image,
                found,
                bundle_hash=bundle_hash,
                is_mutable=reference.is_mutable,
                previous=known.verdict,
                rules=self._rules,
                now=now,
            )
        except ScanFailed as error:
            await self._put_error(request, known, error.error, str(error))
            return
        except TryAgain as error:
            await self._try_again(request, known, error, delivery)
            return
        except Unavailable as error:
            if error.neighbour != "anchore":
                raise
            self._bundles.look_soon()
            self._log.warning("anchore_unavailable", error=str(error))
            await self._put_error(request, known, ErrorClass.ANCHORE_UNAVAILABLE, NO_ANSWER)
            if _tries(known.state, delivery) > 1:
                return  # Anchore answers its probe but not this: the image's own trouble, and no reason to wait
            raise
        await self._put_verdict(verdict, request.key, known)

    async def _resolve(self, reference: ImageReference, state: ScanState | None) -> ImageRecord:
        """The image's record now.

        A pending one is looked at by its digest, which spares the registry; once it is analysed the tag is
        resolved afresh, for it may have moved meanwhile.
        """
        if isinstance(state, ScanPending):
            image = await self._anchore.image(state.digest)
            if image and (image.analysis_status != ANALYZED or not reference.is_mutable):
                return image
        image = await self._anchore.add_image(reference)
        _must_belong(image, reference)
        return image

    async def _must_be_analyzed(
        self, request: ScanRequest, image: ImageRecord, known: _Known, now: datetime
    ) -> None:
        if image.analysis_status in UNDER_WAY:
            await self._put_off(request, image, known, now)
        if image.analysis_status == ANALYSIS_FAILED:
            raise ScanFailed(ErrorClass.ANALYSIS_FAILED, f"Anchore could not analyse {image.image_digest}")
        if image.analysis_status != ANALYZED:
            text = f"analysis status {image.analysis_status!r}"
            raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)

    async def _check(
        self,
        request: ScanRequest,
        reference: ImageReference,
        image: ImageRecord,
        known: _Known,
        now: datetime,
    ) -> Evaluation:
        try:
            return await self._anchore.check(image.image_digest, reference, request.bundle_id)
        except NotAnalyzed:
            await self._put_off(request, image, known, now)
            raise

    async def _put_off(self, request: ScanRequest, image: ImageRecord, known: _Known, now: datetime) -> None:
        """Write `pending` and give the delivery back. Always raises `Retryable`, `ScanFailed` or `Conflict`."""
        state = known.state
        is_same = isinstance(state, ScanPending) and state.digest == image.image_digest
        since = state.since if state and is_same else now
        attempt = state.attempt + 1 if state and is_same else 1
        if now - since > self._pending_limit:
            text = f"the analysis of {image.image_digest} takes longer than {self._pending_limit}"
            raise ScanFailed(ErrorClass.ANALYSIS_TOO_SLOW, text)
        delay = delays.until_next_look(attempt)
        pending = ScanPending(
            tenant=request.tenant,
            image=request.image,
            bundle_id=request.bundle_id,
            digest=image.image_digest,
            list_digest=image.list_digest,
            since=since,
            next_look=now + timedelta(seconds=delay),
            attempt=attempt,
        )
        await self._buckets.put_state(request.key, pending, now, over=known.state_revision)
        self._note("pending")
        raise Retryable(f"{image.image_digest} is being analysed", delay=delay)

    async def _put_verdict(self, verdict: Verdict, key: str, known: _Known) -> None:
        try:
            await self._buckets.put_verdict(key, verdict, datetime.now(UTC), over=known.revision)
        except Conflict:  # written since this scan began: that answer is the later one
            self._note("dropped")
            return
        if known.state is not None:
            await self._buckets.clear_state(key)
        self._note(verdict.result.value)

    async def _try_again(
        self, request: ScanRequest, known: _Known, error: TryAgain, delivery: Delivery
    ) -> None:
        """An inner error of Anchore: silently a few times, then an error state."""
        tries = _tries(known.state, delivery)
        if tries < delays.MAX_TRIES:
            raise Retryable(str(error), delay=delays.until_next_look(tries))
        await self._put_error(request, known, ErrorClass.ANCHORE_UNAVAILABLE, str(error))

    async def _put_error(self, request: ScanRequest, known: _Known, error: ErrorClass, message: str) -> None:
        now = datetime.now(UTC)
        previous = known.state if isinstance(known.state, ScanError) else None
        attempt = previous.attempt + 1 if previous else 1
        scan_error = ScanError(
            tenant=request.tenant,
            image=request.image,
            bundle_id=request.bundle_id,
            error=error,
            message=message[:500],
            attempt=attempt,
            since=previous.since if previous else now,
            until=now + timedelta(seconds=delays.error_life(attempt)),
        )
        await self._buckets.put_state(request.key, scan_error, now, over=known.state_revision)
        self._note(error.value, message=message)

    def _note(self, result: str, **facts: str) -> None:
        self._metrics.scans.labels(result).inc()
        self._log.info("scan", result=result, **facts)


def _tries(state: ScanState | None, delivery: Delivery) -> int:
    """Which try this is, from 1. Looks at an analysis are no tries."""
    looks = state.attempt if isinstance(state, ScanPending) else 0
    return max(1, delivery.number - looks)


def _reference(request: ScanRequest) -> ImageReference:
    try:
        return images.parse(request.image)
    except BadImage as error:
        raise Permanent(str(error)) from error


def _must_belong(image: ImageRecord, reference: ImageReference) -> None:
    """Anchore's answer is about what was asked: the digest asked for, or the tag."""
    if reference.digest:
        if reference.digest not in {image.image_digest, image.list_digest}:
            text = f"asked for {reference.digest}, Anchore answered with {image.image_digest}"
            raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)
        return
    tags = {detail.fulltag for detail in image.image_detail or ()}
    if str(reference) not in tags:
        text = f"asked for {reference}, Anchore answered with {sorted(str(tag) for tag in tags)}"
        raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)
