"""Reports beside Audits, in a cluster that has the API and in one that has not."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from shared.broker import Broker
from shared.contracts import Outcome
from tests.audit_writer.decisions import image
from tests.audit_writer.service import (
    Start,
    bound,
    connected,
    eventually,
    now_decided,
    now_rejected,
    publish,
    replica_set,
    running,
    settled,
)
from tests.support.kube import Kubectl
from tests.support.open_reports import NAME, report_crd


@pytest.fixture
async def events(nats_server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(nats_server) as broker:
        yield broker


@pytest.fixture
def start(nats_server: NatsServer, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs the service, with Reports, while the context is open."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig()))
    return partial(running, nats_server, MOORGATE_REPORTS="openreports")


@pytest.fixture
async def installed(control_plane: ControlPlane) -> AsyncIterator[None]:
    """The API of OpenReports."""
    admin = Kubectl(control_plane)
    await admin.create(report_crd())
    await admin.ok("wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=10s")
    yield
    await admin.ok("delete", "crd", NAME)


@pytest.mark.usefixtures("installed")
async def test_a_report_goes_with_each_audit(start: Start, events: Broker, kubectl: Kubectl) -> None:
    owner = await replica_set(kubectl)
    two = (image("nginx:1.27"), image("bad:1", Outcome.FAIL, policy="prod"))
    async with start():
        await publish(events, now_rejected(kubectl, owner=owner, images=two))
        await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
        await settled(events)
        [report] = await kubectl.get("reports")
        assert report["metadata"]["name"] == "replicaset-web-5cd466fccb"
        assert [each["uid"] for each in report["metadata"]["ownerReferences"]] == [owner.uid]
        assert report["scope"]["kind"] == "ReplicaSet"
        assert report["summary"] == {"pass": 1, "fail": 1, "warn": 0, "error": 0, "skip": 0}
        assert [each["result"] for each in report["results"]] == ["fail", "pass"]
        assert report["results"][0]["properties"]["findings"] == "CVE-2026-0001"

        await publish(events, now_decided(kubectl, 2, owner=owner))
        await settled(events)
        [changed] = await kubectl.get("reports")
        assert changed["summary"]["fail"] == 0
        await publish(events, now_decided(kubectl, 3, owner=owner))
        await settled(events)
        assert await kubectl.get("reports") == [changed]  # no news, no write


async def test_without_the_api_audits_are_written_as_ever(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    async with start():
        await publish(events, now_rejected(kubectl, pod_name="refused"))

        async def recorded() -> bool:
            return len(await kubectl.get("audits")) == 1

        await eventually("the Audit is there", recorded)
        await settled(events)
