"""What an answer says: always all that helps, never too long, on one line."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway import answer
from services.gateway.decision import Judged, decide
from services.gateway.workloads import Workload
from shared.contracts import ContainerKind, ErrorClass, Mode, Outcome, Reason, Result
from shared.evidence import Evidence
from shared.pods import PodImage
from shared.policies import OnError, OnPending
from tests.support.builders import BUNDLE, DIGEST, FINDING, START, TAG, at, pod_image, rule, verdict

NOW = at(60)
WORKLOAD = Workload(kind="Pod", namespace="shop", name="web-0", uid="u", labels={}, owner=None, images=())


def judged(evidence: Evidence, image: PodImage | None = None, bundle: str = BUNDLE, **rules: Any) -> Judged:
    return Judged(
        image=image or pod_image(), reference=TAG, rule=rule(**rules), evidence=evidence, bundle_id=bundle
    )


def failing(*reasons: Reason, **more: Any) -> Judged:
    evaluated = verdict(Result.FAIL, reasons=reasons or (FINDING,))
    return judged(Evidence(outcome=Outcome.FAIL, verdict=evaluated, revision=3), **more)


def errored(
    error: ErrorClass = ErrorClass.IMAGE_NOT_FOUND, message: str = "manifest unknown", **more: Any
) -> Judged:
    return judged(Evidence(outcome=Outcome.ERROR, error=error, error_message=message), **more)


def waiting(since: float = 0, **more: Any) -> Judged:
    return judged(Evidence(outcome=Outcome.PENDING, pending_since=at(since)), **more)


def refusal(*images: Judged, workload: Workload = WORKLOAD) -> str:
    return answer.refusal(workload, decide(list(images)), list(images), NOW)


def warnings(*images: Judged, cluster_wide: tuple[str, ...] = ()) -> list[str]:
    return answer.warnings(decide(list(images)), list(images), list(cluster_wide), NOW)


def test_a_failing_image_is_named_with_gate_trigger_bundle_and_what_to_do() -> None:
    assert refusal(failing()) == (
        "moorgate: Pod web-0 is not admitted: image nginx:1.27 (container web) fails policy bundle default-policy: "
        "vulnerabilities/package: CVE-2026-0001 in openssl; use an image without it, or ask for a WhiteListItem"
    )


def test_only_findings_that_stop_are_told_and_the_others_counted() -> None:
    warn = Reason(gate="dockerfile", trigger="instruction", action="warn", text="no HEALTHCHECK")
    stop = Reason(gate="secret_scans", trigger="content_regex_checks", action="stop", text="AWS key")
    text = refusal(failing(warn, stop, FINDING))
    assert "secret_scans/content_regex_checks: AWS key (and 1 more findings)" in text
    assert "HEALTHCHECK" not in text
    assert "stopped without a finding" in refusal(failing(warn))


def test_the_worst_image_is_told_and_those_like_it_counted() -> None:
    other = failing(image=pod_image("redis:7"))
    text = refusal(waiting(), errored(), failing(), other)
    assert "image nginx:1.27" in text
    assert "(and 1 more images like it)" in text
    assert "being scanned" not in text
    assert "image_not_found" not in text


def test_a_deferral_says_that_the_scan_goes_on() -> None:
    text = refusal(waiting(since=18))
    assert "Pod web-0 is waiting for a scan" in text
    assert "for 42 s now" in text
    assert "try again" in text
    assert "is not admitted" in refusal(waiting(on_pending=OnPending.DENY))


@pytest.mark.parametrize("error", ErrorClass)
def test_every_error_says_what_to_do(error: ErrorClass) -> None:
    text = refusal(errored(error))
    assert f"has no verdict ({error}: manifest unknown); " in text
    advice = text.partition("; ")[2]
    assert any(word in advice for word in ("try again", "ask", "correct", "give"))


LONG = st.text(min_size=1, max_size=30).flatmap(
    lambda text: st.sampled_from([text, text * 40, "x" + text * 400 + "y", f"a\n\t{text}\x1b[31m\x00\u2028"])
)
IMAGES = st.builds(PodImage, LONG, st.sampled_from(ContainerKind), LONG)
REASONS = st.builds(Reason, gate=LONG, trigger=LONG, action=st.just("stop"), text=LONG)
WORKLOADS = st.builds(
    Workload,
    kind=st.just("Pod"),
    namespace=st.just("shop"),
    name=LONG,
    uid=LONG,
    labels=st.just({}),
    owner=st.none(),
    images=st.just(()),
)
JUDGED = st.one_of(
    st.builds(
        lambda reason, image, bundle: failing(reason, image=image, bundle=bundle), REASONS, IMAGES, LONG
    ),
    st.builds(
        lambda error, text, image: errored(error, text, image=image),
        st.sampled_from(ErrorClass),
        LONG,
        IMAGES,
    ),
    st.builds(lambda since, image: waiting(since, image=image), st.floats(-100, 10_000), IMAGES),
)


@given(WORKLOADS, st.lists(JUDGED, min_size=1, max_size=9))
@settings(deadline=None, max_examples=200)
def test_no_text_makes_an_answer_too_long_or_more_than_one_line(
    workload: Workload, images: list[Judged]
) -> None:
    text = refusal(*images, workload=workload)
    assert len(text.encode()) <= 1024
    assert text.isprintable()
    said = answer.forecast(workload, decide(images), images, NOW)
    lenient = [errored(image=each.image, on_error=OnError.ALLOW) for each in images]
    said_too = warnings(*lenient, cluster_wide=("web",) * 9)
    for lines in (said, said_too):
        assert 1 <= len(lines) <= 5
        assert all(len(line.encode()) <= 256 and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("image", "bundle", "reason"),
    [
        (pod_image("r.example/" + "x" * 250 + ":" + "y" * 120, "c" * 63), "b" * 64, FINDING),
        (pod_image(), BUNDLE, Reason(gate="g" * 300, trigger="t" * 300, action="stop", text="z" * 9000)),
        (pod_image("nginx" * 3000, "web\n" * 900), "bundle" * 900, FINDING),
    ],
)
def test_however_long_the_parts_are_the_message_names_all_of_them(
    image: PodImage, bundle: str, reason: Reason
) -> None:
    long_name = Workload(
        kind="Pod", namespace="shop", name="p" * 253, uid="u", labels={}, owner=None, images=()
    )
    bad = failing(reason, image=image, bundle=bundle)
    text = refusal(bad, bad, bad, workload=long_name)
    assert len(text.encode()) <= 1024
    for part in (image.image[:60], bundle[:30], reason.gate[:20], reason.trigger[:20], reason.text[:20]):
        assert part in text
    assert "WhiteListItem" in text
    error = refusal(errored(message="e" * 5000, image=image), workload=long_name)
    assert image.image[:60] in error
    assert "correct the reference" in error


def test_warnings_say_why_the_pod_is_let_in_all_the_same() -> None:
    [failed] = warnings(failing(mode=Mode.WARN))
    assert failed.startswith("moorgate: allowed, but image nginx:1.27 (container web) fails policy bundle")
    [unknown] = warnings(waiting(on_pending=OnPending.ALLOW))
    assert "being scanned" in unknown
    assert warnings(judged(Evidence(outcome=Outcome.PASS)), cluster_wide=("web",)) == [
        "moorgate: WhiteListItem web counts in every namespace; give it spec.namespaces"
    ]
    assert warnings(judged(Evidence(outcome=Outcome.PASS)), failing(mode=Mode.AUDIT)) == []


def test_a_pass_past_its_time_is_told_with_its_age() -> None:
    stale = Evidence(outcome=Outcome.PASS, verdict=verdict(), is_stale_pass=True)
    [text] = warnings(judged(stale))
    assert "passed 60 s ago and nobody can be asked for a newer verdict" in text


def test_a_forecast_tells_what_the_pods_of_a_workload_would_meet() -> None:
    deployment = Workload(
        kind="Deployment", namespace="shop", name="web", uid="u", labels={}, owner=None, images=()
    )
    images = [failing(), waiting(image=pod_image("redis:7")), judged(Evidence(outcome=Outcome.PASS))]
    refused, deferred = answer.forecast(deployment, decide(images), images, NOW)
    assert refused.startswith("moorgate: Pods of this Deployment would be refused: image nginx:1.27")
    assert deferred.startswith("moorgate: Pods of this Deployment would wait: image redis:7")


def test_annotations_carry_digest_verdict_bundle_source_and_age() -> None:
    images = [failing(), errored(image=pod_image("redis:7")), waiting()]
    lines = answer.annotations(decide(images), images, "memory", NOW)
    assert lines["decision"] == "rejected"
    assert lines["source"] == "memory"
    assert lines["image-0"] == f"{TAG} fail {DIGEST} bundle={BUNDLE} age=60s"
    assert lines["image-1"] == f"{TAG} error error=image_not_found"
    assert lines["image-2"] == f"{TAG} pending"


@pytest.mark.parametrize(
    ("age", "expected"), [(0, 2), (3.9, 2), (4, 2), (5, 3), (20, 10), (59, 30), (60, 30), (3600, 30), (-9, 2)]
)
def test_the_hint_grows_with_the_age_of_the_scan_within_two_and_thirty_seconds(
    age: float, expected: int
) -> None:
    assert answer.retry_after([waiting(since=60 - age)], NOW) == expected


def test_the_hint_is_for_the_oldest_scan_and_short_where_none_has_begun() -> None:
    begun = [waiting(since=40), waiting(since=20), failing()]
    assert answer.retry_after(begun, NOW) == 20
    assert answer.retry_after([judged(Evidence(outcome=Outcome.PENDING))], NOW) == 2
    ages = [answer.retry_after([waiting(since=0)], at(age)) for age in range(120)]
    assert ages == sorted(ages)
    assert answer.retry_after([], START) == 2
