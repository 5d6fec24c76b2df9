"""Every rule of freshness, with the moment as a value."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import images
from shared.contracts import ErrorClass, Outcome, Result, ScanState, Verdict
from shared.evidence import CANNOT_ANSWER, PENDING_GRACE, Ask, Evidence, Known, holds_until, weigh
from shared.verdicts import StoredVerdict
from tests.support.builders import (
    BUNDLE_HASH,
    DIGEST,
    LIST_DIGEST,
    OTHER_DIGEST,
    PINNED,
    START,
    TAG,
    at,
    pending,
    scan_error,
    verdict,
)

HOUR, DAY = 3600.0, 86400.0
FRESH, AGEING, STALE, KNOWN_ENDS = 60.0, HOUR * 2 / 3, HOUR, DAY
REVISION = 7


def seen(
    stored: Verdict | None,
    seconds: float = FRESH,
    state: ScanState | None = None,
    reference: str = TAG,
    **known: Any,
) -> Evidence:
    entry = StoredVerdict(stored, REVISION) if stored else None
    wanted = {"bundle_hash": BUNDLE_HASH, **known}
    return weigh(Known(reference=images.parse(reference), stored=entry, state=state, **wanted), at(seconds))


FAILING = verdict(Result.FAIL)
PASSING = verdict()


@pytest.mark.parametrize(("stored", "outcome"), [(PASSING, Outcome.PASS), (FAILING, Outcome.FAIL)])
@pytest.mark.parametrize("reference", [TAG, PINNED])
def test_a_fresh_verdict_counts_and_nothing_is_asked(
    stored: Verdict, outcome: Outcome, reference: str
) -> None:
    evidence = seen(stored, reference=reference)
    assert evidence == Evidence(outcome=outcome, verdict=stored, revision=REVISION)
    assert seen(stored, AGEING - 1, reference=reference) == evidence


@pytest.mark.parametrize("stored", [PASSING, FAILING])
@pytest.mark.parametrize("seconds", [AGEING, STALE - 1])
def test_past_two_thirds_of_its_fresh_life_it_counts_and_a_refresh_is_asked_for(
    stored: Verdict, seconds: float
) -> None:
    evidence = seen(stored, seconds)
    assert (evidence.outcome, evidence.ask, evidence.verdict) == (seen(stored).outcome, Ask.REFRESH, stored)


@pytest.mark.parametrize("reference", [TAG, PINNED])
@pytest.mark.parametrize("seconds", [STALE, KNOWN_ENDS - 1])
def test_a_stale_fail_still_refuses(reference: str, seconds: float) -> None:
    evidence = seen(FAILING, seconds, reference=reference)
    assert (evidence.outcome, evidence.ask, evidence.is_stale_pass) == (Outcome.FAIL, Ask.REFRESH, False)


def test_a_stale_pass_of_a_digest_counts_without_a_warning() -> None:
    evidence = seen(PASSING, STALE, reference=PINNED)
    assert (evidence.outcome, evidence.ask, evidence.is_stale_pass) == (Outcome.PASS, Ask.REFRESH, False)


def test_a_stale_pass_of_a_tag_is_waited_for_like_an_unknown_image() -> None:
    assert seen(PASSING, STALE) == Evidence(outcome=Outcome.PENDING, ask=Ask.WAIT, revision=REVISION)
    both = f"{TAG}@{DIGEST}"
    assert seen(PASSING, STALE, reference=both).outcome is Outcome.PASS


@pytest.mark.parametrize("error", ErrorClass)
def test_a_stale_pass_of_a_tag_counts_only_when_nobody_who_knows_can_be_asked(error: ErrorClass) -> None:
    state = scan_error(error, since=at(STALE))
    evidence = seen(PASSING, STALE + 1, state)
    if error in CANNOT_ANSWER:
        assert (evidence.outcome, evidence.is_stale_pass, evidence.verdict) == (Outcome.PASS, True, PASSING)
        assert evidence.ask is Ask.NO
    else:
        assert (evidence.outcome, evidence.error, evidence.ask) == (Outcome.ERROR, error, Ask.NO)


def test_errors_that_say_something_about_the_image_are_told_from_those_that_do_not() -> None:
    about_the_image = {
        ErrorClass.IMAGE_NOT_FOUND,
        ErrorClass.ANALYSIS_FAILED,
        ErrorClass.ANALYSIS_TOO_SLOW,
        ErrorClass.UNSUPPORTED,
        ErrorClass.BUNDLE_UNKNOWN,
        ErrorClass.TENANT_UNKNOWN,
        ErrorClass.BAD_REFERENCE,
    }
    assert set(ErrorClass) - CANNOT_ANSWER == about_the_image


def test_with_nats_away_a_stale_pass_counts_until_it_is_no_longer_known() -> None:
    away = seen(PASSING, KNOWN_ENDS - 1, nobody_to_ask=True)
    assert (away.outcome, away.is_stale_pass) == (Outcome.PASS, True)
    gone = seen(PASSING, KNOWN_ENDS, nobody_to_ask=True)
    assert (gone.outcome, gone.error, gone.verdict) == (Outcome.ERROR, ErrorClass.NATS_UNAVAILABLE, None)


@pytest.mark.parametrize("stored", [PASSING, FAILING])
@pytest.mark.parametrize("reference", [TAG, PINNED])
def test_what_is_older_than_known_is_unknown(stored: Verdict, reference: str) -> None:
    evidence = seen(stored, KNOWN_ENDS, reference=reference)
    assert evidence == Evidence(outcome=Outcome.PENDING, ask=Ask.WAIT, revision=REVISION)


def test_nothing_known_is_pending_and_asked_for() -> None:
    assert seen(None) == Evidence(outcome=Outcome.PENDING, ask=Ask.WAIT, revision=0)
    away = seen(None, nobody_to_ask=True)
    assert (away.outcome, away.error, away.ask) == (Outcome.ERROR, ErrorClass.NATS_UNAVAILABLE, Ask.NO)


def test_a_verdict_of_another_bundle_content_is_stale() -> None:
    other: dict[str, Any] = {"bundle_hash": "5678"}
    assert seen(PASSING, **other).outcome is Outcome.PENDING
    assert seen(FAILING, **other).outcome is Outcome.FAIL
    assert seen(FAILING, **other).ask is Ask.REFRESH
    pinned = seen(PASSING, reference=PINNED, **other)
    assert (pinned.outcome, pinned.ask) == (Outcome.PASS, Ask.REFRESH)
    away = seen(PASSING, nobody_to_ask=True, **other)
    assert (away.outcome, away.is_stale_pass) == (Outcome.PASS, True)


def test_a_bundle_whose_content_nobody_has_read_makes_nothing_stale() -> None:
    assert seen(PASSING, bundle_hash=None) == seen(PASSING)


@pytest.mark.parametrize("stored", [PASSING, FAILING])
def test_a_scan_that_found_another_image_behind_the_tag_ends_the_verdict(stored: Verdict) -> None:
    state = pending(digest=OTHER_DIGEST)
    evidence = seen(stored, 1, state)
    assert (evidence.outcome, evidence.ask, evidence.verdict) == (Outcome.PENDING, Ask.NO, None)
    assert (evidence.digest, evidence.pending_since) == (OTHER_DIGEST, START)
    assert evidence.next_look == state.next_look
    assert evidence.revision == REVISION


@pytest.mark.parametrize("digest", [DIGEST, LIST_DIGEST])
@pytest.mark.parametrize("stored", [PASSING, FAILING])
def test_a_scan_of_the_judged_image_or_its_list_leaves_the_verdict(stored: Verdict, digest: str) -> None:
    evidence = seen(stored, 1, pending(digest=digest))
    assert evidence == seen(stored, 1)


def test_a_digest_cannot_move() -> None:
    assert seen(FAILING, 1, pending(digest=OTHER_DIGEST), PINNED).outcome is Outcome.FAIL


def test_a_lapsed_state_moves_no_tag() -> None:
    lapsed = 5 + PENDING_GRACE.total_seconds()
    assert seen(PASSING, lapsed, pending(digest=OTHER_DIGEST)).outcome is Outcome.PASS
    assert seen(PASSING, lapsed - 1, pending(digest=OTHER_DIGEST)).outcome is Outcome.PENDING


def test_while_a_state_lives_nobody_asks() -> None:
    for state in (pending(), scan_error(), scan_error(ErrorClass.ANCHORE_UNAVAILABLE)):
        assert seen(None, 1, state).ask is Ask.NO
        assert seen(FAILING, 1, state).ask is Ask.NO
    for state in (pending(since=at(STALE)), scan_error(since=at(STALE))):
        assert seen(FAILING, STALE + 1, state).ask is Ask.NO
        assert seen(PASSING, STALE + 1, state).ask is Ask.NO


def test_once_an_error_has_lapsed_it_is_asked_again() -> None:
    assert seen(None, 14.9, scan_error()).error is ErrorClass.IMAGE_NOT_FOUND
    assert seen(None, 15, scan_error()) == Evidence(outcome=Outcome.PENDING, ask=Ask.WAIT)


def test_a_pending_scan_says_since_when_and_when_somebody_looks_again() -> None:
    evidence = seen(None, 1, pending())
    assert (evidence.outcome, evidence.pending_since, evidence.next_look) == (Outcome.PENDING, START, at(5))
    assert seen(None, 5 + PENDING_GRACE.total_seconds(), pending()).ask is Ask.WAIT


def test_with_nats_away_a_scan_under_way_is_no_reason_to_come_back() -> None:
    evidence = seen(None, 1, pending(), nobody_to_ask=True)
    assert (evidence.outcome, evidence.error) == (Outcome.ERROR, ErrorClass.NATS_UNAVAILABLE)


def test_with_anchore_away_the_unknown_is_an_error_and_asked_for_all_the_same() -> None:
    evidence = seen(None, is_anchore_away=True)
    assert (evidence.outcome, evidence.error) == (Outcome.ERROR, ErrorClass.ANCHORE_UNAVAILABLE)
    assert evidence.ask is Ask.REFRESH, "the verdict is wanted when Anchore is back"
    under_way = seen(None, 1, pending(), is_anchore_away=True)
    assert (under_way.outcome, under_way.ask) == (Outcome.PENDING, Ask.NO)
    told = seen(None, 1, scan_error(), is_anchore_away=True)
    assert told.error is ErrorClass.IMAGE_NOT_FOUND


def test_where_nobody_can_be_asked_the_message_says_who_is_away() -> None:
    nats = seen(None, nobody_to_ask=True, is_anchore_away=True)
    assert nats.error_message == "NATS is away, so no scanner can be asked"
    anchore = seen(None, is_anchore_away=True)
    assert anchore.error_message == "Anchore does not answer the scanners"


@pytest.mark.parametrize(
    "known",
    [
        {"state": scan_error(since=at(KNOWN_ENDS))},
        {"state": pending(since=at(KNOWN_ENDS))},
        {"nobody_to_ask": True},
        {"is_anchore_away": True},
        {},
    ],
)
def test_a_verdict_too_old_to_count_still_says_which_one_is_to_be_replaced(known: dict[str, Any]) -> None:
    assert seen(PASSING, KNOWN_ENDS + 1, **known).revision == REVISION
    assert seen(None, KNOWN_ENDS + 1, **known).revision == 0


def test_evidence_says_no_more_than_is_known() -> None:
    nothing = Evidence(outcome=Outcome.PENDING)
    assert (nothing.ask, nothing.verdict, nothing.revision, nothing.error) == (Ask.NO, None, 0, None)
    assert (nothing.error_message, nothing.digest, nothing.is_stale_pass) == ("", "", False)
    assert (nothing.pending_since, nothing.next_look) == (None, None)


def test_a_pending_state_outlives_the_longest_delay_between_two_looks() -> None:
    assert timedelta(seconds=30) == PENDING_GRACE


def test_with_anchore_away_a_stale_pass_of_a_tag_counts_and_a_known_fail_refuses() -> None:
    stale = seen(PASSING, STALE, is_anchore_away=True)
    assert (stale.outcome, stale.is_stale_pass, stale.ask) == (Outcome.PASS, True, Ask.REFRESH)
    assert seen(FAILING, STALE, is_anchore_away=True).outcome is Outcome.FAIL
    assert seen(PASSING, KNOWN_ENDS, is_anchore_away=True).outcome is Outcome.ERROR


def test_an_error_state_is_told_with_its_message() -> None:
    evidence = seen(None, 1, scan_error(ErrorClass.REGISTRY_UNAUTHORIZED))
    assert evidence.error is ErrorClass.REGISTRY_UNAUTHORIZED
    assert evidence.error_message == "nobody knows it"


def test_a_verdict_that_came_after_the_question_answers_it_however_short_its_life() -> None:
    at_once_stale = verdict(fresh_until=START)
    assert seen(at_once_stale, 1).outcome is Outcome.PENDING
    answered = seen(at_once_stale, 1, asked_over=REVISION - 1)
    assert (answered.outcome, answered.ask) == (Outcome.PASS, Ask.NO)
    assert not answered.is_stale_pass
    assert seen(at_once_stale, 1, asked_over=REVISION).outcome is Outcome.PENDING
    assert seen(verdict(), KNOWN_ENDS, asked_over=0).outcome is Outcome.PENDING, "not past what is known"


SECONDS = st.floats(-HOUR, DAY - 0.001) | st.sampled_from([0.0, AGEING, STALE, 5.0, 15.0])
STATES = st.one_of(
    st.none(),
    st.builds(
        pending,
        since=SECONDS.map(at),
        next_look=st.none() | SECONDS.map(at),
        digest=st.sampled_from([DIGEST, LIST_DIGEST]),
    ),
    st.builds(scan_error, st.sampled_from(ErrorClass), since=SECONDS.map(at)),
)
WORLDS = {
    "seconds": SECONDS,
    "state": STATES,
    "reference": st.sampled_from([TAG, PINNED, f"{TAG}@{DIGEST}"]),
    "bundle_hash": st.sampled_from([None, BUNDLE_HASH, "5678"]),
    "asked_over": st.none() | st.integers(0, 20),
    "nobody_to_ask": st.booleans(),
    "is_anchore_away": st.booleans(),
}


@given(st.fixed_dictionaries(WORLDS), st.floats(0, DAY))
@settings(deadline=None, max_examples=400)
def test_a_known_fail_refuses_whatever_goes_away(world: dict[str, Any], fresh: float) -> None:
    failing = verdict(Result.FAIL, fresh_until=START + timedelta(seconds=fresh))
    assert seen(failing, **world).outcome is Outcome.FAIL


@given(st.fixed_dictionaries(WORLDS), st.sampled_from([DIGEST, OTHER_DIGEST]), st.sampled_from(Result))
@settings(deadline=None, max_examples=400)
def test_a_known_fail_is_never_weighed_as_a_pass_and_evidence_never_made_up(
    world: dict[str, Any], digest: str, result: Result
) -> None:
    world["state"] = pending(since=at(world["seconds"]), digest=digest)
    evidence = seen(verdict(result), **world)
    if evidence.outcome is Outcome.PASS:
        assert result is Result.PASS
        assert world["seconds"] < DAY
    assert (evidence.verdict is None) == (evidence.outcome in (Outcome.PENDING, Outcome.ERROR))
    assert (evidence.error is None) == (evidence.outcome is not Outcome.ERROR)


@given(st.fixed_dictionaries({**WORLDS, "seconds": st.floats(DAY, 100 * DAY)}), st.sampled_from(Result))
@settings(deadline=None)
def test_past_what_is_known_no_verdict_counts(world: dict[str, Any], result: Result) -> None:
    assert seen(verdict(result), **world).outcome in (Outcome.PENDING, Outcome.ERROR)


@given(
    seconds=st.floats(0, 2 * DAY),
    later=st.floats(0, 2 * DAY),
    result=st.sampled_from(Result),
    reference=st.sampled_from([TAG, PINNED]),
    bundle_hash=st.sampled_from([BUNDLE_HASH, "another", None]),
    away=st.tuples(st.booleans(), st.booleans()),
)
@settings(max_examples=300)
def test_what_holds_is_what_would_be_weighed_at_any_time_until_then(
    *,
    seconds: float,
    later: float,
    result: Result,
    reference: str,
    bundle_hash: str | None,
    away: tuple[bool, bool],
) -> None:
    stored = StoredVerdict(verdict(result), REVISION)
    known = Known(reference=images.parse(reference), stored=stored, state=None, bundle_hash=bundle_hash)
    evidence = weigh(known, at(seconds))
    until = holds_until(known, evidence)
    if until is not None and at(later) < until and later >= seconds:
        others = msgspec.structs.replace(known, nobody_to_ask=away[0], is_anchore_away=away[1])
        assert weigh(others, at(later)) == evidence


def test_a_fresh_verdict_holds_until_it_ages() -> None:
    known = Known(
        reference=images.parse(TAG),
        stored=StoredVerdict(PASSING, REVISION),
        state=None,
        bundle_hash=BUNDLE_HASH,
    )
    assert holds_until(known, weigh(known, at(FRESH))) == at(AGEING)


@pytest.mark.parametrize(
    "change",
    [{"state": pending()}, {"state": scan_error()}, {"asked_over": REVISION - 1}, {"stored": None}],
)
def test_what_is_in_doubt_or_unknown_does_not_hold(change: dict[str, Any]) -> None:
    fresh = {"stored": StoredVerdict(PASSING, REVISION), "state": None, "bundle_hash": BUNDLE_HASH}
    known = Known(reference=images.parse(TAG), **{**fresh, **change})
    assert holds_until(known, weigh(known, at(FRESH))) is None


def test_an_ageing_verdict_does_not_hold() -> None:
    known = Known(
        reference=images.parse(PINNED),
        stored=StoredVerdict(PASSING, REVISION),
        state=None,
        bundle_hash=BUNDLE_HASH,
    )
    assert holds_until(known, weigh(known, at(AGEING))) is None
