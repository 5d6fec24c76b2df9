"""Complete values for tests, with only what a test is about spelled out.

Times count from `START`: `at(30)` is half a minute later. A verdict is fresh for an hour and known for a day.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from services.gateway.admission import AdmissionRequest
from shared import images
from shared.contracts import (
    ContainerKind,
    ErrorClass,
    Mode,
    Reason,
    Result,
    ScanError,
    ScanPending,
    TenantRecord,
    Verdict,
)
from shared.crds import WhiteListItem, WhiteListSpec
from shared.objects import ObjectMeta
from shared.pods import PodImage
from shared.policies import OnError, OnPending, Rule

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32
LIST_DIGEST = "sha256:" + "cd" * 32
OTHER_DIGEST = "sha256:" + "ef" * 32
BUNDLE = "default-policy"
BUNDLE_HASH = "1234"
TAG = "docker.io/library/nginx:1.27"
PINNED = f"docker.io/library/nginx@{DIGEST}"
FINDING = Reason(gate="vulnerabilities", trigger="package", action="stop", text="CVE-2026-0001 in openssl")

TYPES = {
    "Pod": ("", "v1"),
    "ReplicationController": ("", "v1"),
    "Deployment": ("apps", "v1"),
    "StatefulSet": ("apps", "v1"),
    "DaemonSet": ("apps", "v1"),
    "ReplicaSet": ("apps", "v1"),
    "Job": ("batch", "v1"),
    "CronJob": ("batch", "v1"),
}
"""Group and version of each kind that holds images."""


def at(seconds: float) -> datetime:
    """So many seconds after the start."""
    return START + timedelta(seconds=seconds)


def verdict(result: Result = Result.PASS, *, since: datetime = START, **changes: Any) -> Verdict:
    """A verdict of `TAG`, evaluated `since`, fresh for an hour, known for a day."""
    plain = Verdict(
        tenant="default",
        image=TAG,
        digest=DIGEST,
        list_digest=LIST_DIGEST,
        bundle_id=BUNDLE,
        bundle_hash=BUNDLE_HASH,
        result=result,
        evaluated_at=since,
        fresh_until=since + timedelta(hours=1),
        known_until=since + timedelta(days=1),
        failing_since=since if result is Result.FAIL else None,
        reasons=(FINDING,) if result is Result.FAIL else (),
        reasons_total=1 if result is Result.FAIL else 0,
    )
    return msgspec.structs.replace(plain, **changes)


def pending(*, since: datetime = START, next_look: datetime | None = None, **changes: Any) -> ScanPending:
    """A scan under way since then; somebody looks again five seconds later."""
    plain = ScanPending(
        tenant="default",
        image=TAG,
        bundle_id=BUNDLE,
        digest=DIGEST,
        list_digest=LIST_DIGEST,
        since=since,
        next_look=next_look or since + timedelta(seconds=5),
    )
    return msgspec.structs.replace(plain, **changes)


def scan_error(
    error: ErrorClass = ErrorClass.IMAGE_NOT_FOUND, *, since: datetime = START, **changes: Any
) -> ScanError:
    """An error state that lives for 15 seconds."""
    plain = ScanError(
        tenant="default",
        image=TAG,
        bundle_id=BUNDLE,
        error=error,
        message="nobody knows it",
        attempt=1,
        since=since,
        until=since + timedelta(seconds=15),
    )
    return msgspec.structs.replace(plain, **changes)


def tenant_record(tenant: str = "default", **changes: Any) -> TenantRecord:
    """One active bundle."""
    plain = TenantRecord(tenant=tenant, active_bundle_id=BUNDLE, bundles={BUNDLE: BUNDLE_HASH}, read_at=START)
    return msgspec.structs.replace(plain, **changes)


def rule(**changes: Any) -> Rule:
    """The process defaults: enforce, retry, deny."""
    plain = Rule(mode=Mode.ENFORCE, on_pending=OnPending.RETRY, on_error=OnError.DENY)
    return msgspec.structs.replace(plain, **changes)


def pod_image(image: str = "nginx:1.27", container: str = "web") -> PodImage:
    """An image of a plain container."""
    return PodImage(container, ContainerKind.CONTAINER, image)


def normal(image: str) -> str:
    """The normalised reference."""
    return str(images.parse(image))


def whitelist_item(name: str = "web", **spec: Any) -> WhiteListItem:
    """An item without limits, unless the test names some."""
    wanted = {"creator": "ops", "reason": "known and accepted", **spec}
    return WhiteListItem(metadata=ObjectMeta(name=name), spec=WhiteListSpec(**wanted))


def pod(*containers: str, name: str = "web-0", **metadata: Any) -> dict[str, Any]:
    """A Pod as the API server sends it."""
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-of-{name}", **metadata},
        "spec": {"containers": [{"name": f"c{n}", "image": image} for n, image in enumerate(containers)]},
    }


def holder(
    kind: str, *containers: str, name: str = "web", labels: dict[str, str] | None = None
) -> dict[str, Any]:
    """An object of a kind that holds a Pod template; a Pod for `Pod`."""
    if kind == "Pod":
        return pod(*containers, name=name, labels=labels or {})
    template = {"metadata": {"labels": labels or {}}, "spec": pod(*containers)["spec"]}
    spec: dict[str, Any] = {"template": template}
    if kind == "CronJob":
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}}
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"uid-of-{name}"}, "spec": spec}


def review(
    new: dict[str, Any] | None, *, version: str = "v1", kind: str = "Pod", **request: Any
) -> dict[str, Any]:
    """An AdmissionReview about the object; `request` adds to or replaces its fields."""
    group, kind_version = TYPES.get(kind, ("", "v1"))
    return {
        "kind": "AdmissionReview",
        "apiVersion": f"admission.k8s.io/{version}",
        "request": {
            "uid": "7e2c1ab6-6a6c-4a3c-9d50-000000000001",
            "kind": {"group": group, "version": kind_version, "kind": kind},
            "operation": "CREATE",
            "namespace": "shop",
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "object": new,
            "oldObject": None,
            "dryRun": False,
            **request,
        },
    }


def admission(new: dict[str, Any] | None, *, kind: str = "Pod", **request: Any) -> AdmissionRequest:
    """The decoded request of such a review."""
    wanted = review(new, kind=kind, **request)["request"]
    return msgspec.json.decode(msgspec.json.encode(wanted), type=AdmissionRequest)
