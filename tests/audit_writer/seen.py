"""What runs and what is seen of it, for the tests of judgements, flips and re-scans."""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.judgements import Judgement
from services.audit_writer.running import RunningImage, Snapshot, Workload
from services.audit_writer.sights import Sight
from shared import images
from shared.contracts import ContainerKind, Mode, OwnerClaim, Reason, Result, TenantRecord
from shared.crds import Audit, OwnerReference
from shared.policies import OnError, OnPending, Rule
from shared.verdicts import StoredVerdict
from tests.audit_writer.decisions import DIGEST, START, decision
from tests.support import builders

BUNDLE, HASH = "default-policy", "1234"
OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web-5cd466fccb", uid="owner-uid")
STANDING = Standing(name="replicaset-web-5cd466fccb", owner=OWNER)
CVE = Reason(gate="vulnerabilities", trigger="package", action="stop", text="CVE-2026-1", trigger_id="CVE-1")
DEFAULTS = Rule(mode=Mode.ENFORCE, on_pending=OnPending.RETRY, on_error=OnError.DENY)


def normal(image: str) -> str:
    return str(images.parse(image))


def running_image(image: str = "nginx:1.27", *digests: str, **changes: Any) -> RunningImage:
    plain = RunningImage(
        container="web",
        container_kind=ContainerKind.CONTAINER,
        image=image,
        reference=normal(image),
        digests=frozenset(digests or (DIGEST,)),
    )
    return msgspec.structs.replace(plain, **changes)


def workload(name: str = "web-5cd466fccb", namespace: str = "shop", **changes: Any) -> Workload:
    plain = Workload(
        namespace=namespace,
        audit=f"replicaset-{name}",
        owner=OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name=name, uid=f"uid-{name}"),
        pod=f"{name}-1",
        release="web",
        release_matched="web",
        fake_release=False,
        pods=1,
        since=START,
        images=(running_image(),),
    )
    return msgspec.structs.replace(plain, **changes)


def snapshot(*workloads: Workload, **namespaces: dict[str, str]) -> Snapshot:
    labels = {each.namespace: namespaces.get(each.namespace, {}) for each in workloads}
    by_name = {(each.namespace, each.audit): each for each in workloads}
    return Snapshot(taken_at=START, workloads=by_name, namespaces=labels)


def tenant(name: str = "default", **changes: Any) -> TenantRecord:
    plain = TenantRecord(tenant=name, active_bundle_id=BUNDLE, bundles={BUNDLE: HASH}, read_at=START)
    return msgspec.structs.replace(plain, **changes)


def judgement(image: str = "nginx:1.27", **changes: Any) -> Judgement:
    plain = Judgement(
        tenant="default", bundle_id=BUNDLE, bundle_hash=HASH, reference=normal(image), mode=Mode.ENFORCE
    )
    return msgspec.structs.replace(plain, **changes)


def verdict(
    result: Result = Result.FAIL, *, after: float = 60, revision: int = 7, **changes: Any
) -> StoredVerdict:
    """Evaluated, and turned, so many seconds after the start."""
    at = START + timedelta(seconds=after)
    plain = builders.verdict(
        result,
        since=at,
        bundle_hash=HASH,
        list_digest=DIGEST,
        unchanged_since=at,
        reasons=(CVE,) if result is Result.FAIL else (),
    )
    return StoredVerdict(msgspec.structs.replace(plain, **changes), revision)


def sight(
    result: Result = Result.FAIL,
    *,
    image: str = "nginx:1.27",
    stored: StoredVerdict | None = None,
    judged: Judgement | None = None,
    **changes: Any,
) -> Sight:
    plain = Sight(
        judgement=judged or judgement(image),
        stored=stored or verdict(result),
        digests=frozenset({DIGEST}),
    )
    return msgspec.structs.replace(plain, **changes)


def audit(number: int = 1, **changes: Any) -> Audit:
    """Of one decision, passed and allowed unless told otherwise."""
    return audit_of(decision(number, **changes), STANDING)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)
