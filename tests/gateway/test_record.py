"""The decision as an event: complete, and never larger than a message may be."""

from typing import Any

import msgspec
import pytest

from services.gateway.decision import Judged, decide
from services.gateway.record import decided
from services.gateway.workloads import Workload
from shared import contracts
from shared.contracts import (
    ADMISSION_DECIDED,
    Action,
    AdmissionDecided,
    ContainerKind,
    ErrorClass,
    Outcome,
    OwnerClaim,
    Reason,
    Result,
)
from shared.evidence import Evidence
from shared.pods import PodImage
from shared.releases import Release
from tests.support.builders import (
    BUNDLE,
    BUNDLE_HASH,
    DIGEST,
    LIST_DIGEST,
    OTHER_DIGEST,
    START,
    TAG,
    admission,
    pod,
    pod_image,
    rule,
    verdict,
)

WORKLOAD = Workload(
    kind="Pod",
    namespace="shop",
    name="web-0",
    uid="uid-of-web-0",
    labels={"release": "web"},
    owner=OwnerClaim(api_version="apps/v1", kind="StatefulSet", name="web", uid="owner-uid"),
    images=(),
)


def failing(image: PodImage | None = None, *reasons: Reason) -> Judged:
    evaluated = verdict(Result.FAIL)
    if reasons:
        evaluated = msgspec.structs.replace(evaluated, reasons=reasons)
    return Judged(
        image=image or pod_image(),
        reference=TAG,
        rule=rule(policy="strict"),
        evidence=Evidence(outcome=Outcome.FAIL, verdict=evaluated, revision=7),
        bundle_id=BUNDLE,
    )


def event(images: list[Judged], message: str = "because", **request: Any) -> AdmissionDecided:
    found, payload = decided(
        admission(pod("nginx"), **request),
        WORKLOAD,
        Release(name="web-0", is_fake=True, recorded="web"),
        decision=decide(images),
        judged=images,
        message=message,
        now=START,
    )
    assert payload == contracts.encode(found) or len(payload) > contracts.MAX_MESSAGE_BYTES
    return found


def test_the_event_says_everything_the_record_needs() -> None:
    found = event([failing()], operation="UPDATE", subResource="ephemeralcontainers")
    assert found.id == "7e2c1ab6-6a6c-4a3c-9d50-000000000001"
    assert (found.namespace, found.pod_name, found.pod_uid) == ("shop", "web-0", "uid-of-web-0")
    assert (found.operation, found.sub_resource) == ("UPDATE", "ephemeralcontainers")
    assert (found.action, found.code, found.message) == (Action.REJECTED, 403, "because")
    assert (found.release, found.fake_release, found.user) == ("web", True, "alice")
    assert (found.owner, found.decided_at) == (WORKLOAD.owner, START)
    [image] = found.images
    assert (image.image, image.reference, image.container) == ("nginx:1.27", TAG, "web")
    assert (image.outcome, image.policy, image.tenant) == (Outcome.FAIL, "strict", "default")
    assert (image.bundle_id, image.bundle_hash, image.revision) == (BUNDLE, BUNDLE_HASH, 7)
    assert (image.digest, image.list_digest, image.evaluated_at) == (DIGEST, LIST_DIGEST, START)
    assert [reason.gate for reason in image.reasons] == ["vulnerabilities"]


def test_without_a_verdict_the_digest_under_scan_and_the_error_are_told() -> None:
    waiting = msgspec.structs.replace(
        failing(), evidence=Evidence(outcome=Outcome.PENDING, digest=OTHER_DIGEST)
    )
    missing = Evidence(
        outcome=Outcome.ERROR, error=ErrorClass.IMAGE_NOT_FOUND, error_message="manifest unknown"
    )
    first, second = event([waiting, msgspec.structs.replace(failing(), evidence=missing)]).images
    assert (first.digest, first.bundle_hash, first.reasons) == (OTHER_DIGEST, "", ())
    assert (second.error, second.error_message) == (ErrorClass.IMAGE_NOT_FOUND, "manifest unknown")


BIG = "\u20ac" * 4000
REASON = Reason(gate="vulnerabilities", trigger="package", action="stop", text=BIG, trigger_id="id")
MANY = {
    "many images": [failing(pod_image(f"r.example/app:{n}")) for n in range(2000)],
    "many findings": [failing(pod_image(f"r.example/app:{n}"), *[REASON] * 40) for n in range(300)],
    "a text that is no image": [failing(pod_image("a" * 600_000))],
    "texts that JSON doubles": [failing(pod_image('"\\' * 500_000, "\x01" * 500_000), REASON)],
    "long errors": [
        msgspec.structs.replace(
            failing(),
            evidence=Evidence(outcome=Outcome.ERROR, error=ErrorClass.BAD_REFERENCE, error_message=BIG),
        )
    ]
    * 250,
}


@pytest.mark.parametrize("images", MANY.values(), ids=MANY)
def test_whatever_a_pod_names_its_decision_fits_a_message(images: list[Judged]) -> None:
    found = event(images, message=BIG * 100, userInfo={"username": "u" * 400_000})
    again = contracts.decode(contracts.encode(found), ADMISSION_DECIDED)
    assert again == found
    assert (again.action, again.code) == (decide(images).action, decide(images).code)
    assert 1 <= len(again.images) <= len(images)
    assert again.images[0].outcome is images[0].evidence.outcome


def test_what_decided_is_kept_when_something_must_go() -> None:
    passing = msgspec.structs.replace(failing(), evidence=Evidence(outcome=Outcome.PASS))
    bad = failing(pod_image("r.example/bad:1"), REASON)
    found = event([passing] * 3000 + [bad])
    assert "r.example/bad:1" in [image.image for image in found.images]


def test_a_small_decision_is_told_whole_and_in_order() -> None:
    images = [
        failing(PodImage(f"c{n}", ContainerKind.CONTAINER, f"app:{n}"), *[REASON] * 3) for n in range(3)
    ]
    found = event(images)
    assert [image.image for image in found.images] == ["app:0", "app:1", "app:2"]
    assert all(len(image.reasons) == 3 for image in found.images)
