"""What a person reads."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from services.audit_writer.notifications import text
from services.audit_writer.notifications.text import clean, fit, notice, plain
from shared.contracts import AffectedWorkload, FlipCause, Reason, Result
from tests.audit_writer.notifications.flips import REASON, WORKLOAD, flip
from tests.support.builders import START

FAILS = """\
docker.io/library/nginx:1.27 fails its policy now: release web in namespace shop of cluster prod-eu
Digest: sha256:abababababab
Workloads: ReplicaSet/web-5cd466fccb
Judged by: bundle default-policy, tenant default
Why now: what is known of the image has changed
Failing since: 2026-11-23 12:00 UTC
New findings:
• CVE-2026-0001: HIGH in libssl3 (fixed in 3.0.9)
What runs goes on running; where the policy is enforced, new Pods with this image are refused.
What to do: rebuild the image so that it passes, or roll the release back to one that does.
Look closer: kubectl -n shop get audit replicaset-web-5cd466fccb -o yaml
To accept it for a while: a WhiteListItem named web with spec.reason and spec.expiresAt."""

PASSES = """\
docker.io/library/nginx:1.27 passes its policy again: release web in namespace shop
Digest: sha256:abababababab
Workloads: ReplicaSet/web-5cd466fccb
Judged by: bundle default-policy, tenant default
Why now: what is known of the image has changed
Passing since: 2026-11-23 12:00 UTC, after failing since 2026-11-23 11:00 UTC
Findings that are gone:
• CVE-2026-0001: HIGH in libssl3 (fixed in 3.0.9)
Nothing to do: this image keeps no new Pods out any more."""


def shown(cluster: str = "", **changes: Any) -> str:
    said = notice(flip(**changes), cluster, plain)
    return "\n".join((said.headline, *said.lines))


def test_a_flip_to_fail_says_what_where_why_and_what_to_do() -> None:
    assert shown("prod-eu") == FAILS


def test_a_flip_to_pass_says_that_nothing_is_to_be_done() -> None:
    assert shown(result=Result.PASS, failing_since=START - timedelta(hours=1)) == PASSES


FINDING = "• CVE-2026-0001: HIGH"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"failing_since": START - timedelta(days=1)}, "Failing since: 2026-11-22 12:00 UTC"),
        ({"result": Result.PASS}, "Passing since: 2026-11-23 12:00 UTC"),
        ({"policy": "strict"}, "Judged by: bundle default-policy, tenant default, ImagePolicy strict"),
        ({"cause": FlipCause.BUNDLE}, "Why now: the policy bundle has changed"),
        ({"cause": FlipCause.POLICY}, "Why now: another policy, bundle or tenant judges the image now"),
        ({"cause": FlipCause.TAG}, "Why now: the tag means another image now"),
        ({"workloads_total": 3}, "Workloads: ReplicaSet/web-5cd466fccb and 2 more"),
        (
            {"workloads": (WORKLOAD,) * 6},
            "Workloads: " + ", ".join(["ReplicaSet/web-5cd466fccb"] * 5) + " and 1 more",
        ),
        ({"new_reasons": (REASON,) * 10}, "• and 2 more"),
        (
            {
                "new_reasons": (
                    Reason(gate="dockerfile", trigger="instruction", action="stop", text="no USER"),
                )
            },
            "• dockerfile/instruction: no USER",
        ),
        (
            {"new_reasons": (Reason(gate="g", trigger="t", action="stop", text="see GHSA-aaaa-bbbb-cccc."),)},
            "• GHSA-aaaa-bbbb-cccc: see GHSA-aaaa-bbbb-cccc.",
        ),
        ({"new_reasons": (Reason(gate="g", trigger="t", action="stop", text=""),)}, "• g/t: no text"),
    ],
)
def test_a_line_of(changes: dict[str, Any], line: str) -> None:
    assert line in shown(**changes).splitlines()


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"new_reasons": ()}, "New findings"),
        ({"workloads": (), "workloads_total": 0}, "Workloads"),
        ({"workloads": ()}, "kubectl"),
        ({"namespace": "shop; reboot"}, "kubectl"),
        ({"namespace": "shop\n"}, "kubectl"),
        ({"workloads": (AffectedWorkload(kind="Pod", name="x", audit="$(reboot)"),)}, "kubectl"),
        ({"release": "a\u202eb"}, "\u202e"),
        ({"image": "x\nNothing to do"}, "\nNothing to do"),
    ],
)
def test_nothing_is_said_of(changes: dict[str, Any], absent: str) -> None:
    assert absent not in shown(**changes)


def test_each_foreign_text_is_quoted() -> None:
    marked = notice(
        flip(policy="p", bundle_id="b", namespace="n", release="r", image="i", digest="d"),
        "c",
        lambda each: f"[{each}]",
    )
    said = "\n".join((marked.headline, *marked.lines))
    for each in (
        "p",
        "b",
        "n",
        "r",
        "i",
        "d",
        "c",
        "default",
        "CVE-2026-0001",
        REASON.text,
        "ReplicaSet/web-5cd466fccb",
    ):
        assert f"[{each}]" in said


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plain", "plain"),
        (" a \r\n\t b\u2028c\x00d ", "a b c d"),
        ("x" * 11, "x" * 9 + "…"),
        ("x" * 10, "x" * 10),
        (" " * 50 + "x", "…"),
        ("", ""),
    ],
)
def test_clean(given: str, expected: str) -> None:
    assert clean(given, 10) == expected


def test_only_whole_lines_fit() -> None:
    assert fit(["abc", "de", "f"], 7) == "abc\nde"
    assert fit(["abc", "de", "f"], 6) == "abc"
    assert fit(["abc"], 3) == ""


def test_every_cause_has_its_words() -> None:
    assert set(text._WHY) == set(FlipCause)


def test_the_text_of_an_event_without_anything_optional() -> None:
    bare = msgspec.structs.replace(flip(), workloads=(), workloads_total=0, new_reasons=(), policy=None)
    assert notice(bare, "", plain).findings == ()
