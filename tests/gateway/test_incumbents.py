"""Who is let in for a while although it fails: what runs here already, and for how long."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.incumbents import grace_until
from shared.contracts import Result, Verdict
from shared.subjects import running_key
from tests.support.builders import DIGEST, LIST_DIGEST, OTHER_DIGEST, START, at, rule, verdict

GRACE = 100.0
FAILING = verdict(Result.FAIL)
HERE = running_key("shop", DIGEST)


def until(
    of: Verdict | None = FAILING, seconds: float = 10, running: tuple[str, ...] = (HERE,), **changes: Any
) -> datetime | None:
    wanted = rule(**{"incumbent_grace": GRACE, **changes})
    return grace_until(of, wanted, "shop", set(running).__contains__, at(seconds))


@pytest.mark.parametrize("digest", [DIGEST, LIST_DIGEST])
def test_a_failing_image_that_runs_here_has_its_grace_by_its_digest_or_its_lists(digest: str) -> None:
    assert until(running=(running_key("shop", digest),)) == at(GRACE)


@pytest.mark.parametrize(
    "running",
    [
        (),
        (running_key("test", DIGEST), running_key("test", LIST_DIGEST)),
        (running_key("shop", OTHER_DIGEST),),
    ],
)
def test_what_does_not_run_in_this_namespace_has_none(running: tuple[str, ...]) -> None:
    assert until(running=running) is None


def test_a_verdict_that_names_no_digest_has_none() -> None:
    nameless = verdict(Result.FAIL, digest="", list_digest="")
    assert until(nameless, running=(running_key("shop", ""),)) is None
    assert until(verdict(Result.FAIL, digest="", list_digest=LIST_DIGEST), running=(HERE,)) is None


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-1, at(GRACE)), (99.9, at(GRACE)), (100, None), (101, None)]
)
def test_the_grace_ends(seconds: float, expected: datetime | None) -> None:
    assert until(seconds=seconds) == expected


def test_the_grace_runs_from_the_moment_it_began_to_fail_not_from_the_last_look() -> None:
    since_long = verdict(Result.FAIL, since=at(50), failing_since=START)
    assert until(since_long, 60) == at(GRACE)
    assert until(since_long, 120) is None


def test_where_nobody_knows_since_when_it_fails_the_evaluation_counts() -> None:
    assert until(verdict(Result.FAIL, since=at(50), failing_since=None), 60) == at(50 + GRACE)


@pytest.mark.parametrize("of", [None, verdict(), verdict(failing_since=START)])
def test_only_a_failing_verdict_needs_a_grace(of: Verdict | None) -> None:
    assert until(of) is None


def test_a_rule_without_a_grace_gives_none() -> None:
    assert until(incumbent_grace=0.0, seconds=-1) is None
    assert until(incumbent_grace=0.5, seconds=0.4) == at(0.5)


def test_nothing_is_looked_up_for_what_is_not_failing() -> None:
    def unexpected(key: str) -> bool:
        raise AssertionError(key)

    grace = rule(incumbent_grace=GRACE)
    assert grace_until(verdict(), grace, "shop", unexpected, START) is None
    assert grace_until(FAILING, rule(), "shop", unexpected, START) is None


@given(
    seconds=st.floats(-1e6, 1e6),
    grace=st.floats(0, 1e6),
    began=st.floats(0, 1e6),
    result=st.sampled_from(Result),
    runs=st.booleans(),
)
@settings(deadline=None)
def test_a_grace_is_given_only_to_what_fails_and_runs_and_never_past_its_end(
    seconds: float, grace: float, began: float, result: Result, *, runs: bool
) -> None:
    of = verdict(result, since=at(began))
    found = until(of, seconds, (HERE,) if runs else (), incumbent_grace=grace)
    if found is not None:
        assert result is Result.FAIL
        assert runs
        assert at(seconds) < found <= at(began) + timedelta(seconds=grace)
