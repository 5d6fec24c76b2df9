"""One scan request, from delivery to verdict, scan state or error.

read what is known → resolve the image at Anchore → still being analysed: pending, put off
                                                  → analysed: check exactly the bundle asked for → verdict

Dying anywhere is safe: nothing is acknowledged before the verdict or state is written, the verdict goes
only over the revision read at the start, and Anchore takes the same calls again. No worker waits for an
analysis: the delivery is given back with a growing delay.
"""

from datetime import UTC, datetime, timedelta

import msgspec

from services.scanner import attempts, delays, evaluation
from services.scanner.anchore import ANALYSIS_FAILED, ANALYZED, UNDER_WAY, Anchore, Evaluation, Image
from services.scanner.attempts import Known, Stumbles
from services.scanner.bundles import Bundles
from services.scanner.evaluation import Rules
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.health import Health
from services.scanner.looks import Looks
from services.scanner.metrics import ScannerMetrics
from shared import images, logs
from shared.consumer import Delivery
from shared.contracts import ErrorClass, ScanError, ScanPending, ScanRequest, ScanState, Verdict
from shared.errors import BadImage, Conflict, Permanent, Retryable, Unavailable
from shared.images import ImageReference
from shared.verdict_store import VerdictBuckets

NO_ANSWER = "Anchore gave no answer"
"""All that whoever creates a Pod is told: addresses and time-outs are for the scanner's log."""


class Worker:
    """Scans for one tenant in one lane."""

    def __init__(
        self,
        *,
        tenant: str,
        anchore: Anchore,
        buckets: VerdictBuckets,
        bundles: Bundles,
        health: Health,
        looks: Looks,
        rules: Rules,
        pending_limit: float,
        metrics: ScannerMetrics,
    ) -> None:
        """`pending_limit`: seconds an analysis may take."""
        self._tenant = tenant
        self._anchore = anchore
        self._buckets = buckets
        self._bundles = bundles
        self._health = health
        self._looks = looks
        self._rules = rules
        self._pending_limit = timedelta(seconds=pending_limit)
        self._metrics = metrics
        self._stumbles = Stumbles()
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
            try:
                await self._answer(request, reference, delivery)
            except Conflict as conflict:  # another scanner has written the state since: look at it anew
                raise Retryable(str(conflict), delay=delays.FIRST_LOOK) from conflict

    async def _answer(self, request: ScanRequest, reference: ImageReference, delivery: Delivery) -> None:
        verdict, revision = await self._buckets.verdict(request.key)
        if verdict is not None and revision > request.seen:
            self._note("answered")
            return
        state, state_revision = await self._buckets.state(request.key)
        known = Known(verdict=verdict, revision=revision, state=state, state_revision=state_revision)
        if attempts.is_abandoned(known):
            begun = attempts.MAX_BEGUN + 1
            await self._put_error(
                request, known, ErrorClass.ANCHORE_NOT_UNDERSTOOD, attempts.ABANDONED, begun
            )
            return
        with self._looks.turn(is_look=attempts.is_look(known)):
            if delivery.number > 1:
                known = await self._count_attempt(request, known)
            try:
                await self._scan(request, reference, known)
            except Unavailable:  # this worker lives, whoever is away
                await self._count_back(request, known)
                raise

    async def _count_attempt(self, request: ScanRequest, known: Known) -> Known:
        """Note that the work is begun again, before it is. Raises `Permanent` when it ends no worker any more."""
        now = datetime.now(UTC)
        marked = attempts.begun_again(request, known, now)
        if marked.begun > attempts.MAX_BEGUN:
            await self._put_error(
                request, known, ErrorClass.ANCHORE_NOT_UNDERSTOOD, attempts.ABANDONED, marked.begun
            )
            raise Permanent(attempts.ABANDONED)
        revision = await self._buckets.put_state(request.key, marked, now, over=known.state_revision)
        return msgspec.structs.replace(known, state=marked, state_revision=revision)

    async def _count_back(self, request: ScanRequest, known: Known) -> None:
        """The attempt has ended and its worker lives; where another state was written meanwhile, that says so."""
        if known.state is None or not known.state.begun:
            return
        calm = msgspec.structs.replace(known.state, begun=0)
        try:
            await self._buckets.put_state(request.key, calm, datetime.now(UTC), over=known.state_revision)
        except (Conflict, Unavailable) as error:
            self._log.debug("attempt_not_counted_back", error=str(error))

    async def _scan(self, request: ScanRequest, reference: ImageReference, known: Known) -> None:
        try:
            verdict = await self._judge(request, reference, known, datetime.now(UTC))
        except ScanFailed as error:
            self._stumbles.over(request.key)
            await self._put_error(request, known, error.error, str(error))
        except TryAgain as error:
            await self._try_again(request, known, error)
        except Unavailable as error:
            await self._no_answer(request, known, error)
        else:
            self._stumbles.over(request.key)
            await self._put_verdict(verdict, request.key, known)

    async def _judge(
        self, request: ScanRequest, reference: ImageReference, known: Known, now: datetime
    ) -> Verdict:
        """Ask Anchore. Raises `ScanFailed`, `TryAgain`, `Unavailable`, and `Retryable` for an analysis under way."""
        hash_before = await self._bundles.content_hash(request.bundle_id)
        image = await self._resolve(reference, known.state)
        await self._must_be_analyzed(request, image, known, now)
        found = await self._check(request, reference, image, known, now)
        self._health.checked(image.digest, reference, request.bundle_id)
        return evaluation.verdict(
            request,
            image,
            found,
            bundle_hash=self._bundles.hash_of_evaluated(request.bundle_id, found.content, hash_before),
            is_mutable=reference.is_mutable,
            previous=known.verdict,
            rules=self._rules,
            now=now,
        )

    async def _resolve(self, reference: ImageReference, state: ScanState | None) -> Image:
        """The image's record now.

        A pending one is looked at by its digest, which spares the registry; once it is analysed the tag is
        resolved afresh, for it may have moved meanwhile.
        """
        if isinstance(state, ScanPending) and state.digest != attempts.NOT_KNOWN:
            image = await self._anchore.image(state.digest)
            if image and (image.analysis_status != ANALYZED or not reference.is_mutable):
                return image
        image = await self._anchore.add_image(reference)
        _must_belong(image, reference)
        return image

    async def _must_be_analyzed(
        self, request: ScanRequest, image: Image, known: Known, now: datetime
    ) -> None:
        if image.analysis_status in UNDER_WAY:
            await self._put_off(request, image, known, now)
        if image.analysis_status == ANALYSIS_FAILED:
            raise ScanFailed(ErrorClass.ANALYSIS_FAILED, f"Anchore could not analyse {image.digest}")
        if image.analysis_status != ANALYZED:
            text = f"analysis status {image.analysis_status!r}"
            raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)

    async def _check(
        self,
        request: ScanRequest,
        reference: ImageReference,
        image: Image,
        known: Known,
        now: datetime,
    ) -> Evaluation:
        try:
            return await self._anchore.check(image.digest, reference, request.bundle_id)
        except NotAnalyzed:
            await self._put_off(request, image, known, now)
            raise

    async def _put_off(self, request: ScanRequest, image: Image, known: Known, now: datetime) -> None:
        """Write `pending` and give the delivery back. Always raises `Retryable`, `ScanFailed` or `Conflict`."""
        state = known.state
        is_same = isinstance(state, ScanPending) and state.digest in {image.digest, attempts.NOT_KNOWN}
        since = state.since if state and is_same else now
        attempt = state.attempt + 1 if state and is_same else 1
        if now - since > self._pending_limit:
            text = f"the analysis of {image.digest} takes longer than {self._pending_limit}"
            raise ScanFailed(ErrorClass.ANALYSIS_TOO_SLOW, text)
        delay = self._looks.until_next(attempt)
        pending = ScanPending(
            tenant=request.tenant,
            image=request.image,
            bundle_id=request.bundle_id,
            digest=image.digest,
            list_digest=image.list_digest,
            since=since,
            next_look=now + timedelta(seconds=delay),
            attempt=attempt,
        )
        await self._buckets.put_state(request.key, pending, now, over=known.state_revision)
        self._stumbles.over(request.key)
        self._note("pending")
        raise Retryable(f"{image.digest} is being analysed", delay=delay)

    async def _put_verdict(self, verdict: Verdict, key: str, known: Known) -> None:
        try:
            await self._buckets.put_verdict(key, verdict, datetime.now(UTC), over=known.revision)
        except Conflict:  # written since this scan began: that answer is the later one
            self._note("dropped")
            return
        if known.state is not None:
            await self._buckets.clear_state(key)
        self._note(verdict.result.value)

    async def _try_again(self, request: ScanRequest, known: Known, error: TryAgain) -> None:
        """An inner error of Anchore: silently a few times, then an error state."""
        tries = self._stumbles.again(request.key)
        if tries < delays.MAX_TRIES:
            await self._count_back(request, known)
            raise Retryable(str(error), delay=delays.jittered(delays.until_next_look(tries)))
        self._stumbles.over(request.key)
        await self._put_error(request, known, ErrorClass.ANCHORE_UNAVAILABLE, str(error))

    async def _no_answer(self, request: ScanRequest, known: Known, error: Unavailable) -> None:
        """Raises `error` for the consumer to wait, unless Anchore answers others and only this not."""
        if error.neighbour != "anchore":
            raise error
        self._bundles.look_soon()
        self._log.warning("anchore_unavailable", error=str(error))
        is_first = self._stumbles.again(request.key) == 1
        await self._put_error(request, known, ErrorClass.ANCHORE_UNAVAILABLE, NO_ANSWER)
        if is_first:
            raise error
        self._stumbles.over(request.key)

    async def _put_error(
        self,
        request: ScanRequest,
        known: Known,
        error: ErrorClass,
        message: str,
        begun: int = 0,
    ) -> None:
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
            begun=begun,
        )
        await self._buckets.put_state(request.key, scan_error, now, over=known.state_revision)
        self._note(error.value, message=message)

    def _note(self, result: str, **facts: str) -> None:
        self._metrics.scans.labels(result).inc()
        self._log.info("scan", result=result, **facts)


def _reference(request: ScanRequest) -> ImageReference:
    try:
        return images.parse(request.image)
    except BadImage as error:
        raise Permanent(str(error)) from error


def _must_belong(image: Image, reference: ImageReference) -> None:
    """Anchore's answer is about what was asked: the digest asked for, or the tag."""
    if reference.digest:
        if reference.digest not in {image.digest, image.list_digest}:
            text = f"asked for {reference.digest}, Anchore answered with {image.digest}"
            raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)
        return
    if str(reference) not in image.tags:
        text = f"asked for {reference}, Anchore answered with {sorted(image.tags)}"
        raise ScanFailed(ErrorClass.ANCHORE_NOT_UNDERSTOOD, text)
