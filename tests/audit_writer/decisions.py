"""Decisions for the tests of the audit-writer: complete, with only what a test is about spelled out."""

from datetime import UTC, datetime, timedelta

import msgspec

from shared.contracts import (
    Action,
    AdmissionDecided,
    ContainerKind,
    ErrorClass,
    ImageDecision,
    Mode,
    Outcome,
    OwnerClaim,
    Reason,
)

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32
REASON = Reason(gate="vulnerabilities", trigger="package", action="stop", text="CVE-2026-0001 in openssl")


def image(name: str = "nginx:1.27", outcome: Outcome = Outcome.PASS, **changes: object) -> ImageDecision:
    judged = outcome in (Outcome.PASS, Outcome.FAIL)
    plain = ImageDecision(
        container="web",
        container_kind=ContainerKind.CONTAINER,
        image=name,
        reference=f"docker.io/library/{name}",
        outcome=outcome,
        mode=Mode.ENFORCE,
        tenant="default",
        bundle_id="default-policy",
        digest=DIGEST if judged else "",
        list_digest=DIGEST if judged else "",
        evaluated_at=START if judged else None,
        reasons=(REASON,) if outcome is Outcome.FAIL else (),
        error=ErrorClass.IMAGE_NOT_FOUND if outcome is Outcome.ERROR else None,
    )
    return msgspec.structs.replace(plain, **changes)


def decision(number: int = 1, *, after: float | None = None, **changes: object) -> AdmissionDecided:
    """The decision with this number, taken `after` seconds (else `number`) after the start."""
    plain = AdmissionDecided(
        id=f"00000000-0000-4000-8000-{number:012d}",
        decided_at=START + timedelta(seconds=number if after is None else after),
        namespace="shop",
        pod_name=f"web-5cd466fccb-{number}",
        pod_uid=f"pod-uid-{number}",
        operation="CREATE",
        action=Action.ALLOWED,
        code=200,
        release="web",
        fake_release=False,
        user="system:serviceaccount:kube-system:replicaset-controller",
        images=(image(),),
    )
    return msgspec.structs.replace(plain, **changes)


def rejected(number: int = 1, name: str = "nginx:1.27", **changes: object) -> AdmissionDecided:
    failing = {"action": Action.REJECTED, "code": 403, "images": (image(name, Outcome.FAIL),)}
    return decision(number, **{**failing, **changes})  # type: ignore[arg-type]  # each test names its own fields


def claim(name: str = "web-5cd466fccb", uid: str = "owner-uid", **changes: object) -> OwnerClaim:
    plain = OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name=name, uid=uid)
    return msgspec.structs.replace(plain, **changes)
