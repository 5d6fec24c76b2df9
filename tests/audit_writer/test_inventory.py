"""What runs, as the inventory sees it: on Pods as kubelets report them, on a real API server and a real NATS."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.controlplane import ControlPlane
from services.audit_writer import inventory
from services.audit_writer.inventory import Inventory
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.running import Running
from shared import cluster, subjects
from shared.broker import Broker
from shared.buckets import Bucket
from shared.cluster import Cluster, open_cluster
from shared.contracts import RunningDigest
from shared.errors import Unavailable
from shared.subjects import running_key
from tests.support.api import MERGE, Api, pods
from tests.support.kube import Kubectl
from tests.support.nats import Bell
from tests.support.road import pod

DIGEST, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32


@dataclass
class Place:
    """A namespace with Pods whose kubelet is the test."""

    api: Api
    namespace: str
    cluster: Cluster
    broker: Broker
    running: Running = field(default_factory=Running)

    async def report(self, name: str, *digests: str, image: str = "nginx:1") -> None:
        """A Pod whose node says that these run."""
        await self.api.ok("POST", pods(self.namespace), pod(name, image, schedulerName="nobody"))
        statuses = [
            {
                "name": "main",
                "image": image,
                "imageID": f"registry.example/x@{digest}" if digest else "",
                "ready": True,
                "restartCount": 0,
            }
            for digest in digests
        ]
        status: dict[str, Any] = {"status": {"phase": "Running", "containerStatuses": statuses}}
        await self.api.ok("PATCH", f"{pods(self.namespace, name)}/status", status, content_type=MERGE)

    async def kept(self, digest: str) -> RunningDigest | None:
        """What the bucket says of a digest in the namespace."""
        entry = await Bucket(self.broker, subjects.RUNNING).get(running_key(self.namespace, digest))
        return msgspec.json.decode(entry.value, type=RunningDigest) if entry.value else None

    def inventory(self, interval: float = 600) -> Inventory:
        return Inventory(
            self.cluster,
            Bucket(self.broker, subjects.RUNNING),
            self.running,
            AuditWriterMetrics(CollectorRegistry()),
            interval=interval,
            release_labels=("release",),
        )


@pytest.fixture
async def place(
    control_plane: ControlPlane, kubectl: Kubectl, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig()))
    async with open_cluster() as cluster, Api(control_plane.kubeconfig()) as api:
        yield Place(api, kubectl.namespace, cluster, broker)


async def test_each_running_digest_is_kept_once_a_namespace_with_its_references(place: Place) -> None:
    await place.report("a", DIGEST, image="nginx:1")
    await place.report("b", DIGEST, image="nginx:2")
    await place.report("c", OTHER)
    await place.inventory().take()
    found = await place.kept(DIGEST)
    assert found is not None
    assert (found.namespace, found.digest, found.images) == (
        place.namespace,
        DIGEST,
        ("nginx:1", "nginx:2"),
    )
    assert await place.kept(OTHER) is not None


async def test_a_pod_without_an_image_id_does_not_count(place: Place) -> None:
    await place.report("asked-for", "", image=f"nginx@{DIGEST}")
    await place.inventory().take()
    assert await place.kept(DIGEST) is None


async def test_all_pages_are_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PAGE", 2)
    digests = [f"sha256:{secrets.token_hex(32)}" for _ in range(7)]
    await asyncio.gather(*(place.report(f"p{number}", digest) for number, digest in enumerate(digests)))
    await place.inventory().take()
    assert all([await place.kept(digest) for digest in digests])


async def test_what_runs_no_more_lapses_by_itself(place: Place) -> None:
    await place.report("short", DIGEST)
    await place.inventory(interval=0.4).take()
    assert await place.kept(DIGEST) is not None
    async with asyncio.timeout(5):
        while await place.kept(DIGEST) is not None:
            await asyncio.sleep(0.1)


async def test_an_inventory_that_fails_is_taken_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "AFTER_ERROR", 0.05)
    monkeypatch.setattr(inventory, "PATH", "/api/v1/no-such-thing")
    await place.report("a", DIGEST)
    running = asyncio.create_task(place.inventory().run())
    await asyncio.sleep(0)
    monkeypatch.setattr(inventory, "PATH", "/api/v1/pods")
    try:
        async with asyncio.timeout(5):
            while await place.kept(DIGEST) is None:
                await asyncio.sleep(0.05)
    finally:
        running.cancel()


async def test_the_next_inventory_can_be_had_sooner_but_not_too_soon(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "SOONEST", 0.5)
    some, moments = place.inventory(), list[float]()
    place.running.on_change(lambda: moments.append(asyncio.get_running_loop().time()))
    running = asyncio.create_task(some.run())
    try:
        async with asyncio.timeout(5):
            while len(moments) < 3:
                await asyncio.sleep(0.01)
                some.hurry()
    finally:
        running.cancel()
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(moments))


async def test_the_snapshot_names_what_runs_and_its_namespaces_labels(place: Place) -> None:
    await place.api.ok(
        "PATCH",
        f"/api/v1/namespaces/{place.namespace}",
        {"metadata": {"labels": {"team": "shop"}}},
        content_type=MERGE,
    )
    await place.report("web", DIGEST)
    await place.inventory().take()
    snapshot = place.running.snapshot
    assert snapshot is not None
    found = snapshot.workloads[place.namespace, "pod-web"]
    assert found.stands_alone
    assert found.since is not None
    [image] = found.images
    assert (image.container, image.image, image.reference) == ("main", "nginx:1", "docker.io/library/nginx:1")
    assert image.digests == {DIGEST}
    assert snapshot.namespaces[place.namespace]["team"] == "shop"
    assert {namespace for namespace, _ in snapshot.workloads} == set(snapshot.namespaces)


async def test_a_page_that_is_none_is_no_empty_cluster(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "PATH", "/readyz")
    with pytest.raises(Unavailable):
        await place.inventory().take()
    assert place.running.snapshot is None


async def test_who_leads_no_more_knows_nothing_of_what_runs(place: Place) -> None:
    await place.report("web", DIGEST)
    changes = Bell()
    place.running.on_change(changes.ring)
    taking = asyncio.create_task(place.inventory().run())
    await changes.until(lambda: place.running.snapshot)
    taking.cancel()
    await changes.until(lambda: place.running.snapshot is None)
