"""Garbage in every stream and bucket, from whoever may write there: it is put aside, and the next Pod is admitted.

Each kind of message is decoded in every way by tests/fuzz; this is the whole road with real services.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.dev.controlplane import ControlPlane
from shared import subjects
from shared.broker import Broker
from shared.subjects import Lane
from tests.support.nats_users import AUDIT_WRITER, GATEWAY, OPERATOR, SCANNER, broker_as
from tests.support.road import WatchedRoad, pod, until
from tests.support.scene import DEFAULT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

GARBAGE = (
    b"",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"null",
    b"{}",
    b'{"type":"moorgate.v9.unheard-of"}',
    b'{"type":"moorgate.v1.verdict","tenant":"a.>"}',
    b"x" * 200_000,
)
KEY = subjects.verdict_key("default", DEFAULT, "docker.io/library/nginx:1.25")


@pytest.fixture
async def road(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[WatchedRoad]:
    """One of its own: what lies in its streams is nobody else's."""
    async with WatchedRoad(plane=control_plane, folder=tmp_path) as road:
        yield road


async def scatter(road: WatchedRoad) -> None:
    """Into every place that a service may write to."""
    async with broker_as(road.nats, GATEWAY) as gateway:
        for number, garbage in enumerate(GARBAGE):
            subject = subjects.scan_subject(Lane.ADMISSION, "default", str(number))
            await gateway.publish_raw(subject, garbage, {})
            await gateway.publish_raw(subjects.decision_subject("shop"), garbage, {})
    async with broker_as(road.nats, AUDIT_WRITER) as audit_writer:
        for number, garbage in enumerate(GARBAGE):
            subject = subjects.scan_subject(Lane.RESCAN, "default", str(number))
            await audit_writer.publish_raw(subject, garbage, {})
            await audit_writer.publish_raw(subjects.flip_subject("fail"), garbage, {})
            await audit_writer.publish_raw(f"$KV.moorgate_running.shop.sha256-{number}", garbage, {})
    async with broker_as(road.nats, SCANNER) as scanner:
        for garbage in GARBAGE:
            for place in (f"moorgate_verdicts.{KEY}", f"moorgate_scan_states.{KEY}", "moorgate_tenants.odd"):
                await scanner.publish_raw(f"$KV.{place}", garbage, {})


async def waiting(operator: Broker) -> int:
    """Deliveries that any of the services still has before it."""
    durables = [
        (subjects.SCANS, subjects.lane_durable(Lane.ADMISSION, "default")),
        (subjects.SCANS, subjects.lane_durable(Lane.RESCAN, "default")),
        (subjects.EVENTS, subjects.AUDIT_WRITER),
    ]
    found = [await operator.jetstream.consumer_info(*each) for each in durables]
    return sum((each.num_pending or 0) + (each.num_ack_pending or 0) for each in found)


async def test_garbage_is_put_aside_and_the_next_pod_is_admitted(road: WatchedRoad) -> None:
    await scatter(road)

    async def is_buried() -> bool:
        scans = await road.metric("scanner-0", 'moorgate_dead_letters_total{what="scan"}')
        decisions = await road.metric("audit_writer-0", 'moorgate_dead_letters_total{what="decision"}')
        return (scans, decisions) == (2 * len(GARBAGE), len(GARBAGE))

    await until(is_buried, "every message is a dead letter", 60)
    async with broker_as(road.nats, OPERATOR) as operator:

        async def is_empty() -> bool:
            return await waiting(operator) == 0

        await until(is_empty, "nothing is delivered again", 30)
    kube = await road.namespace()
    await kube.create(pod("web", "nginx:1.25"))
    refused = await kube.run("run", "shop", "--image=registry.example/bad/garbage:1")
    assert "Forbidden" in refused.stderr
    for name, process in road.services.processes.items():
        assert process.is_running, name
        assert "Traceback" not in process.log.read_text(errors="replace"), name
