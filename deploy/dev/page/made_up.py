"""A cluster that was never there: workloads of a made-up company, their Audits, and a week of decisions and flips.

The same every time, so that pictures differ only where the page does.
"""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.page.trend import HOURS, Course, Trend
from services.audit_writer.summary import with_summary
from shared.contracts import (
    Action,
    AdmissionDecided,
    ContainerKind,
    ImageDecision,
    Mode,
    Outcome,
    OwnerClaim,
    Reason,
)
from shared.crds import Audit, AuditState, OwnerReference, Transition

RELEASES = {
    "shop": "storefront cart checkout recommendations search-ui",
    "payments": "ledger gateway fraud-check payouts",
    "search": "indexer query-router suggest",
    "data": "airflow trino kafka-connect superset",
    "edge": "ingress rate-limiter geo",
    "identity": "keycloak session-store",
    "monitoring": "prometheus grafana loki",
}
REGISTRY = "registry.example.com"
FINDINGS = (
    Reason(
        gate="vulnerabilities",
        trigger="package",
        action="stop",
        text="CRITICAL Vulnerability found in os package type (dpkg) - openssl (fixed in: 3.0.15-1) (CVE-2026-5535)",
        trigger_id="CVE-2026-5535+openssl",
    ),
    Reason(
        gate="vulnerabilities",
        trigger="package",
        action="stop",
        text="HIGH Vulnerability found in non-os package type (java) - log4j-core (fixed in: 2.24.4) (GHSA-7rjr-3q55-vv33)",
        trigger_id="GHSA-7rjr-3q55-vv33+log4j",
    ),
    Reason(
        gate="dockerfile",
        trigger="instruction",
        action="warn",
        text="Dockerfile directive 'HEALTHCHECK' not found, matching condition 'not_exists' check",
    ),
)
_HEX = "0123456789abcdef"
_BAD_HOURS = range(50, 54)
_TURNED, _TURNED_BACK = {30: 6, 29: 1}, {9: 4}
"""Hours ago, and how many verdicts turned."""

_WEIGHTS = {
    AuditState.ADMITTED: 86,
    AuditState.OBSERVED: 6,
    AuditState.REJECTED: 4,
    AuditState.DEGRADED: 3,
    AuditState.UNVERIFIED: 1,
}


def audits(count: int, now: datetime, seed: int = 7) -> Iterator[Audit]:
    """So many workloads."""
    dice = random.Random(seed)  # noqa: S311  pictures, no secrets
    places = [(namespace, each) for namespace, names in RELEASES.items() for each in names.split()]
    states = list(_WEIGHTS)
    for number in range(count):
        namespace, release = places[number % len(places)]
        state = dice.choices(states, list(_WEIGHTS.values()))[0]
        yield audit(namespace, release, state, now - _age(state, dice), dice)


def audit(
    namespace: str, release: str, state: AuditState, at: datetime, dice: random.Random, *, image: str = ""
) -> Audit:
    """One workload of a release, in this state since then."""
    name = f"{release}-{''.join(dice.choices(_HEX, k=10))}"
    fails = state in (AuditState.REJECTED, AuditState.DEGRADED)
    image = (
        image
        or f"{REGISTRY}/{namespace}/{release}:{dice.randint(1, 4)}.{dice.randint(0, 20)}.{dice.randint(0, 9)}"
    )
    decision = AdmissionDecided(
        id=f"{dice.getrandbits(128):032x}",
        decided_at=at,
        namespace=namespace,
        pod_name=f"{name}-{''.join(dice.choices(_HEX, k=5))}",
        pod_uid="",
        operation="CREATE",
        action=Action.REJECTED if state is AuditState.REJECTED else Action.ALLOWED,
        code=403 if state is AuditState.REJECTED else 200,
        release=release,
        fake_release=False,
        user="system:serviceaccount:kube-system:replicaset-controller",
        images=(
            _image(image, at, dice, fails=fails),
            _image("envoyproxy/envoy:v1.36.2", at, dice, fails=False),
        ),
        owner=OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name=name, uid=""),
    )
    owner = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name=name, uid=name, controller=True)
    made = audit_of(decision, Standing(name=f"replicaset-{name}", owner=owner))
    return with_summary(_in_state(made, state, at))


def trend(now: datetime, seed: int = 7) -> Trend:
    """A week with days and nights, one bad afternoon, and a feed that turned some verdicts."""
    dice, made = random.Random(seed), Trend()  # noqa: S311  pictures, no secrets
    for back in range(HOURS - 1, -1, -1):
        at = now - timedelta(hours=back)
        busy = 4 + (18 if 7 <= at.hour <= 18 and at.weekday() < 5 else 0)  # noqa: PLR2004  office hours
        rejected = dice.randint(8, 15) if back in _BAD_HOURS else dice.choice((0, 0, 0, 0, 1, 2))
        for course, times in (
            (Course.ALLOWED, dice.randint(busy // 2, 2 * busy)),
            (Course.DEFERRED, dice.choice((0, 0, 1, 3))),
            (Course.REJECTED, rejected),
            (Course.FAILED, _TURNED.get(back, 0)),
            (Course.PASSED, _TURNED_BACK.get(back, 0)),
        ):
            for _ in range(times):
                made.add(dice.choice(list(RELEASES)), course, at, now)
    return made


def _image(name: str, at: datetime, dice: random.Random, *, fails: bool) -> ImageDecision:
    digest = "sha256:" + "".join(dice.choices(_HEX, k=64))
    return ImageDecision(
        container=name.rsplit("/", 1)[-1].partition(":")[0],
        container_kind=ContainerKind.CONTAINER,
        image=name,
        reference=name,
        outcome=Outcome.FAIL if fails else Outcome.PASS,
        mode=Mode.ENFORCE,
        policy="production",
        tenant="default",
        bundle_id="reject-critical",
        digest=digest,
        list_digest=digest,
        evaluated_at=at,
        reasons=FINDINGS if fails else FINDINGS[2:],
    )


def _in_state(made: Audit, state: AuditState, at: datetime) -> Audit:
    """As the inventory would have left it."""
    status = made.status
    if state not in (AuditState.ADMITTED, AuditState.REJECTED):
        mark = msgspec.structs.replace(status.decision, at=at - timedelta(days=3), judged_at=at)
        turned = Transition(
            id=f"turn-{made.metadata.name}",
            at=at,
            outcome="turned",
            action=made.spec.action,
            state=state,
            message=f"{made.spec.images[0].image}: fails since, by new findings"
            if state is AuditState.DEGRADED
            else "",
        )
        first = msgspec.structs.replace(status.transitions[0], at=at - timedelta(days=3))
        status = msgspec.structs.replace(status, decision=mark, transitions=(turned, first))
    return msgspec.structs.replace(made, status=msgspec.structs.replace(status, state=state, last_seen=at))


def _age(state: AuditState, dice: random.Random) -> timedelta:
    """What is wrong is young."""
    longest = 40.0 if state in (AuditState.REJECTED, AuditState.DEGRADED) else 400.0
    return timedelta(hours=longest * dice.random() ** 2, minutes=3)
