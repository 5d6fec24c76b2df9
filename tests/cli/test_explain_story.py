"""The story in words: the gateways' own evidence, and no stranger's text that a terminal or a shell would obey."""

import shlex
from datetime import timedelta

import pytest

from services.cli.explain_story import ImageStory, Story, advice, told
from shared.contracts import Mode, Result
from shared.evidence import Known, weigh
from shared.images import parse
from shared.policies import OnError, OnPending, Rule
from shared.verdicts import StoredVerdict
from tests.support.builders import BUNDLE_HASH, START, TAG, pending, scan_error, verdict

LATER = START + timedelta(hours=2)
ENFORCE = Rule(mode=Mode.ENFORCE, on_pending=OnPending.RETRY, on_error=OnError.DENY, tenant="default")


def first(known: Known, rule: Rule = ENFORCE, now: object = START) -> str:
    """The first advice."""
    evidence = weigh(known, START if now is START else LATER)
    return advice(ImageStory(container="main", image=TAG, rule=rule, evidence=evidence), "shop", "default")[0]


def known(**changes: object) -> Known:
    plain = {"reference": parse(TAG), "stored": None, "state": None, "bundle_hash": BUNDLE_HASH}
    return Known(**{**plain, **changes})  # type: ignore[arg-type]


PASS, FAIL = StoredVerdict(verdict(), 1), StoredVerdict(verdict(Result.FAIL), 1)


@pytest.mark.parametrize(
    ("story", "said"),
    [
        (known(stored=PASS), "the next Pod is let in"),
        (known(stored=PASS, state=pending()), "the next Pod is let in"),
        (known(stored=FAIL, state=scan_error()), "an image without the finding above that stops it"),
        (known(state=pending()), "wait until it is scanned"),
        (known(), "it is scanned when the next Pod asks"),
        (known(state=scan_error()), "mend what is the matter with it (image_not_found"),
        (known(stored=PASS, bundle_hash="another"), "it is scanned when the next Pod asks"),
    ],
    ids=[
        "pass",
        "pass while refreshed",
        "fail beside an error",
        "pending",
        "unknown",
        "error",
        "another bundle",
    ],
)
def test_the_advice_is_what_a_gateway_would_do(story: Known, said: str) -> None:
    assert said in first(story)


def test_a_stale_pass_of_a_tag_is_scanned_first() -> None:
    assert "it is scanned when the next Pod asks" in first(known(stored=PASS), now=LATER)


def test_what_a_policy_lets_in_anyway_is_said() -> None:
    allow = Rule(mode=Mode.ENFORCE, on_pending=OnPending.ALLOW, on_error=OnError.ALLOW, tenant="default")
    assert first(known(state=pending()), allow) == "it is let in while it is scanned"
    assert first(known(state=scan_error()), allow) == "it is let in without a verdict: onError allow"


def test_a_strangers_image_is_neither_obeyed_nor_run() -> None:
    image = "x\x1b]0;owned\x07\x1b[2J$(touch /tmp/x) `id`\n; rm -rf ~"
    story = ImageStory(container=f"container {image}", image=image)
    lines = advice(story, "shop; reboot", "default")
    command = lines[0].partition("ask with ")[2]
    assert shlex.split(command)[:2] == ["moorgate", "check"]
    assert len(shlex.split(command)) == 3
    assert "'shop; reboot'" in lines[1]
    whole = told(
        Story(what=image, namespace="n", release=image, audit=None, images=(story,), notes=(image,)), START
    )
    assert all(each.isprintable() or each == "\n" for each in whole)
