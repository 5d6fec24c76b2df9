"""Attempts are counted before the work, so that what ends its worker is given up."""

from datetime import timedelta

import msgspec

from services.scanner import attempts, delays
from services.scanner.attempts import MAX_BEGUN, NOT_KNOWN, Known, begun_again, is_abandoned
from shared.contracts import ScanPending, ScanRequest
from tests.support.builders import BUNDLE, DIGEST, LIST_DIGEST, TAG, at, pending, scan_error, verdict

REQUEST = ScanRequest(tenant="default", image=TAG, bundle_id=BUNDLE, asked_at=at(-5))
NOTHING = Known(verdict=None, revision=0, state=None, state_revision=0)


def test_the_second_delivery_of_an_unknown_image_is_the_second_attempt() -> None:
    state = begun_again(REQUEST, NOTHING, at(0))
    assert isinstance(state, ScanPending)
    assert (state.begun, state.attempt, state.digest, state.list_digest) == (2, 0, NOT_KNOWN, "")
    assert (state.tenant, state.image, state.bundle_id) == ("default", TAG, BUNDLE)
    assert (state.since, state.next_look) == (at(-5), at(delays.LONGEST_LOOK))


def test_a_known_image_keeps_its_digests() -> None:
    """A state that names another digest would say that the tag has moved."""
    known = msgspec.structs.replace(NOTHING, verdict=verdict())
    state = begun_again(REQUEST, known, at(0))
    assert isinstance(state, ScanPending)
    assert (state.digest, state.list_digest) == (DIGEST, LIST_DIGEST)


def test_a_state_stays_as_it_is_but_for_the_count() -> None:
    for state in (pending(begun=1), scan_error(begun=1), pending(), scan_error()):
        known = msgspec.structs.replace(NOTHING, state=state)
        assert begun_again(REQUEST, known, at(9)) == msgspec.structs.replace(state, begun=state.begun + 1)


def test_a_request_that_kills_every_worker_is_begun_four_times() -> None:
    """The first delivery is not counted: the second knows of it."""
    known, works = NOTHING, 1
    while (state := begun_again(REQUEST, known, at(0))).begun <= MAX_BEGUN:
        works += 1
        known = msgspec.structs.replace(known, state=state)
    assert works == MAX_BEGUN == 4


def test_given_up_is_an_error_counted_beyond() -> None:
    assert not is_abandoned(NOTHING)
    for state, expected in (
        (scan_error(begun=MAX_BEGUN + 1), True),
        (scan_error(begun=MAX_BEGUN), False),
        (scan_error(), False),
        (pending(begun=MAX_BEGUN + 1), False),
    ):
        assert is_abandoned(msgspec.structs.replace(NOTHING, state=state)) is expected


def test_everybody_is_told_where_to_look() -> None:
    assert "4 times" in attempts.ABANDONED
    assert "moorgate dead list" in attempts.ABANDONED
    assert timedelta(seconds=delays.LONGEST_LOOK) == timedelta(seconds=30)
