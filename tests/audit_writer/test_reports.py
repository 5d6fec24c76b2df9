"""What a Report says of an Audit, and that Audits never wait for it."""

from datetime import timedelta

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.audit_writer import open_reports
from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.limits import stored_size
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.open_reports import OpenReports
from services.audit_writer.rates import WriteRate
from services.audit_writer.reports import MAX_RESULTS, Report, report_of
from shared.cluster import Cluster
from shared.contracts import ImageDecision, Outcome, Reason
from shared.crds import OwnerReference
from shared.errors import MoorgateError, Refused, Unavailable
from tests.audit_writer.decisions import DIGEST, START, decision, image
from tests.support.virtual_time import virtually

OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web", uid="owner-uid")
OWNED = Standing(name="replicaset-web", owner=OWNER)


def of(*images: ImageDecision, standing: Standing = OWNED) -> Report:
    return report_of(audit_of(decision(images=images), standing), "audit-uid")


@pytest.mark.parametrize(
    ("judged", "result", "scored"),
    [
        (image(), "pass", True),
        (image(outcome=Outcome.FAIL), "fail", True),
        (image(outcome=Outcome.FAIL, whitelist_item="web"), "warn", False),
        (image(outcome=Outcome.FAIL, grace_until=START), "warn", False),
        (image(outcome=Outcome.PENDING), "skip", False),
        (image(outcome=Outcome.NOT_ASKED), "skip", False),
        (image(outcome=Outcome.ERROR), "error", False),
    ],
)
def test_results(judged: ImageDecision, result: str, *, scored: bool) -> None:
    report = of(judged)
    [found] = report.results
    assert (found.result, found.scored) == (result, scored)
    assert report.summary == {"pass": 0, "fail": 0, "warn": 0, "error": 0, "skip": 0} | {result: 1}


def test_a_failing_image_says_why() -> None:
    high = Reason(
        gate="vulnerabilities", trigger="package", action="stop", text="CRITICAL: CVE-2026-0001 in ssl"
    )
    [found] = of(image(outcome=Outcome.FAIL, policy="prod", reasons=(high,))).results
    assert (found.policy, found.rule, found.severity) == ("prod", "default-policy", "critical")
    assert found.message == "Image failed policy check: nginx:1.27: CRITICAL: CVE-2026-0001 in ssl"
    assert found.timestamp.seconds == int(START.timestamp())
    assert found.properties == {
        "image": "nginx:1.27",
        "container": "web",
        "digest": DIGEST,
        "tenant": "default",
        "findings": "CVE-2026-0001",
    }


def test_it_goes_with_the_workload_or_else_with_the_audit() -> None:
    assert of(image()).metadata.owner_references == (OWNER,)
    assert of(image()).scope.kind == "ReplicaSet"
    [owner] = of(image(), standing=Standing(name="pod-web")).metadata.owner_references
    assert (owner.kind, owner.name, owner.uid) == ("Audit", "pod-web", "audit-uid")


def test_it_is_bounded_and_counts_all() -> None:
    many = [image(f"{'<' * 900}:{number}") for number in range(99)]
    report = of(*many, image("bad", Outcome.FAIL))
    assert report.results[0].result == "fail"
    assert len(report.results) == MAX_RESULTS or sum(report.summary.values()) < MAX_RESULTS
    assert sum(of(*(image(f"a:{number}") for number in range(99))).summary.values()) == 99
    assert stored_size(report) < 128 * 1024


class ReportsRefused(Cluster):
    """An API server that says what the test wants to every apply."""

    def __init__(self) -> None:
        self.answer: MoorgateError | None = None
        self.applies = 0

    async def apply(self, path: str, body: msgspec.Struct, manager: str) -> bytes:
        assert manager == open_reports.MANAGER
        assert isinstance(body, Report)
        assert path == "/apis/openreports.io/v1alpha1/namespaces/shop/reports/replicaset-web"
        self.applies += 1
        if self.answer:
            raise self.answer
        return b"{}"


@virtually
async def test_what_goes_wrong_is_shown_once_and_tried_again_later() -> None:
    cluster, registry = ReportsRefused(), CollectorRegistry()
    reports = OpenReports(cluster, WriteRate(), AuditWriterMetrics(registry))
    audit = audit_of(decision(), OWNED)

    def degraded() -> float | None:
        return registry.get_sample_value("moorgate_degraded", {"part": "reports"})

    assert degraded() == 0
    missing = "PATCH /apis/x: HTTP 404 the server could not find the requested resource"
    for error in (Refused(404, missing), Unavailable("kubernetes", "503")):
        cluster.answer, cluster.applies = error, 0
        for _ in range(3):
            await reports.write(audit, "audit-uid")
        assert (cluster.applies, degraded()) == (1, 1)
        reports._not_before -= timedelta(minutes=5).total_seconds()
    cluster.answer, cluster.applies = Refused(404, 'PATCH: HTTP 404 namespaces "shop" not found'), 0
    for _ in range(3):
        await reports.write(audit, "audit-uid")
    assert (cluster.applies, degraded()) == (3, 1)
    cluster.answer = None
    await reports.write(audit, "audit-uid")
    assert (cluster.applies, degraded()) == (4, 0)
