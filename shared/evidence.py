"""What is known of an image, weighed by age: the rules of freshness, as values in and values out.

    fresh                            counts; past two thirds of its fresh life a refresh is asked for
    stale fail                       still refuses, a refresh is asked for
    stale pass of a digest           counts, a refresh is asked for (one of no fresh life at all: as that of a tag)
    stale pass of a tag              its refresh is waited for like an unknown image; it counts, with a warning,
                                     only when nobody can be asked (stale-if-error, RFC 5861)
    of another bundle content        stale
    state names another digest       the tag has moved: the verdict no longer counts
    older than known                 unknown

Age is judged from the value alone, never from the buckets' expiry.
"""

from datetime import datetime, timedelta
from enum import Enum, auto

import msgspec

from shared.contracts import ErrorClass, Outcome, Result, ScanError, ScanPending, ScanState, Verdict
from shared.images import ImageReference
from shared.verdicts import StoredVerdict

REFRESH_AT = 2 / 3
"""Part of the fresh life after which a refresh is asked for."""

PENDING_GRACE = timedelta(seconds=30)
"""How long after its next look a pending state still counts: the longest delay between two looks."""

CANNOT_ANSWER = frozenset(
    {
        ErrorClass.ANCHORE_UNAVAILABLE,
        ErrorClass.ANCHORE_UNAUTHORIZED,
        ErrorClass.ANCHORE_NOT_UNDERSTOOD,
        ErrorClass.REGISTRY_UNAVAILABLE,
        ErrorClass.REGISTRY_UNAUTHORIZED,
        ErrorClass.NATS_UNAVAILABLE,
    }
)
"""Errors that say nothing about the image: nobody who knows could be asked."""


class Ask(Enum):
    """Whether a scan should be asked for, and whether the answer depends on it."""

    NO = auto()
    REFRESH = auto()
    WAIT = auto()


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision on one image rests on."""

    outcome: Outcome
    ask: Ask = Ask.NO
    verdict: Verdict | None = None
    revision: int = 0
    error: ErrorClass | None = None
    error_message: str = ""
    pending_since: datetime | None = None
    next_look: datetime | None = None
    """When a scanner looks again; None: any moment."""
    digest: str = ""
    """Of a pending scan."""
    is_stale_pass: bool = False
    """A pass past its time that counts only because nobody can be asked."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to weigh for one image."""

    reference: ImageReference
    stored: StoredVerdict | None
    state: ScanState | None
    bundle_hash: str | None
    """Content hash of the bundle in force; None: not known."""
    asked_over: int | None = None
    """Revision of the verdict when this admission asked: a later one answers it, however short its life."""
    nobody_to_ask: bool = False
    """NATS is away."""
    is_anchore_away: bool = False
    """Scanners take requests, but their Anchore answers none."""


def weigh(known: Known, now: datetime) -> Evidence:
    """What counts, and what to ask for."""
    state = _live(known.state, now)
    stored = known.stored
    if stored is None or now >= stored.verdict.known_until or _has_moved(known, state):
        return _without_verdict(known, state)
    verdict = stored.verdict
    found = Evidence(outcome=_outcome(verdict.result), verdict=verdict, revision=stored.revision)
    is_answer = known.asked_over is not None and stored.revision > known.asked_over
    is_stale = _is_stale(known, verdict, now)
    if is_answer or not (is_stale or _is_ageing(verdict, now)):
        return found
    refresh = msgspec.structs.replace(found, ask=Ask.NO if state else Ask.REFRESH)
    if not is_stale:
        return refresh
    if verdict.result is Result.FAIL or (not known.reference.is_mutable and not _is_never_fresh(verdict)):
        return refresh
    if _nobody_can_answer(known, state):
        return msgspec.structs.replace(refresh, is_stale_pass=True)
    return _without_verdict(known, state)


def holds_until(known: Known, evidence: Evidence) -> datetime | None:
    """Until when `evidence` stays what `known` leads to, whoever is away then: that of a fresh verdict that nobody doubts.

    None: weigh anew each time.
    """
    verdict = evidence.verdict
    if (
        known.state is not None
        or known.asked_over is not None
        or verdict is None
        or evidence.ask is not Ask.NO
    ):
        return None
    return min(_ageing_at(verdict), verdict.fresh_until, verdict.known_until)


def _nobody_can_answer(known: Known, state: ScanState | None) -> bool:
    """Whether a stale pass counts. An error that is about the image itself is an answer, whoever is away now."""
    if isinstance(state, ScanError):
        return state.error in CANNOT_ANSWER
    return known.nobody_to_ask or known.is_anchore_away


def _without_verdict(known: Known, state: ScanState | None) -> Evidence:
    revision = known.stored.revision if known.stored else 0
    if isinstance(state, ScanError):
        return Evidence(
            outcome=Outcome.ERROR, error=state.error, error_message=state.message, revision=revision
        )
    if known.nobody_to_ask:
        message = "NATS is away, so no scanner can be asked"
        return Evidence(
            outcome=Outcome.ERROR, error=ErrorClass.NATS_UNAVAILABLE, error_message=message, revision=revision
        )
    if isinstance(state, ScanPending):
        return Evidence(
            outcome=Outcome.PENDING,
            pending_since=state.since,
            next_look=state.next_look,
            digest=state.digest,
            revision=revision,
        )
    if known.is_anchore_away:
        message = "Anchore does not answer the scanners"
        return Evidence(
            outcome=Outcome.ERROR,
            ask=Ask.REFRESH,
            error=ErrorClass.ANCHORE_UNAVAILABLE,
            error_message=message,
            revision=revision,
        )
    return Evidence(outcome=Outcome.PENDING, ask=Ask.WAIT, revision=revision)


def _live(state: ScanState | None, now: datetime) -> ScanState | None:
    """The state, unless it has lapsed."""
    if isinstance(state, ScanError):
        return state if now < state.until else None
    if isinstance(state, ScanPending):
        return state if now < state.next_look + PENDING_GRACE else None
    return None


def _has_moved(known: Known, state: ScanState | None) -> bool:
    """True where a scan under way has found another image behind the tag than the one judged."""
    if known.stored is None or not known.reference.is_mutable or not isinstance(state, ScanPending):
        return False
    return bool(state.digest) and state.digest not in {
        known.stored.verdict.digest,
        known.stored.verdict.list_digest,
    }


def _is_stale(known: Known, verdict: Verdict, now: datetime) -> bool:
    other_content = known.bundle_hash is not None and known.bundle_hash != verdict.bundle_hash
    return other_content or now >= verdict.fresh_until


def _is_never_fresh(verdict: Verdict) -> bool:
    """A lifetime of 0: every admission is to be scanned anew, also of a digest."""
    return verdict.fresh_until <= verdict.evaluated_at


def _is_ageing(verdict: Verdict, now: datetime) -> bool:
    return now >= _ageing_at(verdict)


def _ageing_at(verdict: Verdict) -> datetime:
    life = verdict.fresh_until - verdict.evaluated_at
    return verdict.evaluated_at + life * REFRESH_AT


def _outcome(result: Result) -> Outcome:
    return Outcome.PASS if result is Result.PASS else Outcome.FAIL
