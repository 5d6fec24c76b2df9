"""The road under NATS' locks: what the services do every day needs no permission that their users lack.

Every other road is held to the same at its stop, by its logs (tests/support/road.py); this one is by the metric.
"""

from deploy.dev.kubectl import Kubectl
from tests.support.road import WatchedRoad, audit, pod


async def test_admissions_and_audits_need_no_permission_that_lacks(road: WatchedRoad, kube: Kubectl) -> None:
    assert road.nats.access is not None, "this NATS is open to everybody"
    await kube.create(pod("good", "registry.example/bulk/locked:1"))
    refused = await kube.run("run", "bad", "--image=registry.example/bad/locked:1")
    assert "Forbidden" in refused.stderr
    assert (await audit(kube, "pod-good"))["spec"]["action"] == "allowed"
    assert (await audit(kube, "pod-bad"))["spec"]["action"] == "reject"
    for service in road.services.processes:
        assert await road.metric(service, "moorgate_nats_permission_errors_total") == 0
        assert await road.metric(service, 'moorgate_degraded{part="nats"}') == 0
