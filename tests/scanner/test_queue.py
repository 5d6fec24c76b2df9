"""How long the queues are: told by the scanner whose turn it is, and by no other."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from services.scanner import queue
from services.scanner.metrics import ScannerMetrics
from services.scanner.queue import Queues
from shared import streams, subjects
from shared.broker import BrokerSettings, open_broker
from shared.contracts import ScanRequest
from shared.lifecycle import background
from shared.subjects import Lane


async def test_the_queue_is_told_by_its_keeper(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "INTERVAL", 0.05)
    registry = CollectorRegistry()
    metrics = ScannerMetrics(registry)
    bundles: Any = SimpleNamespace(is_keeper=True)

    async def shown(expected: float | None, lane: Lane = Lane.ADMISSION) -> None:
        async with asyncio.timeout(10):
            while registry.get_sample_value("moorgate_scan_queue_pending", {"lane": lane}) != expected:
                await asyncio.sleep(0.02)

    async with open_broker(BrokerSettings(url=nats_server.url), "moorgate/test", metrics) as broker:
        await asyncio.wait_for(broker.connected(), 10)
        await streams.apply(broker, 1)
        queues = Queues(broker, metrics)
        for tenant in ("one", "two"):
            for lane in Lane:
                await streams.make_lane(broker, lane, tenant)
        before = datetime.now(UTC)
        for tenant, image in (("one", "a"), ("one", "b"), ("two", "a")):
            request = ScanRequest(tenant=tenant, image=image, bundle_id="b", asked_at=before)
            subject = subjects.scan_subject(Lane.ADMISSION, tenant, request.key)
            assert await broker.publish_unless_waiting(subject, request)
        async with background(queues.watch("one", bundles), queues.watch("two", bundles)):
            await shown(3)
            age = registry.get_sample_value("moorgate_scan_queue_oldest_seconds", {"lane": "admission"})
            assert age is not None
            assert 0 <= age <= (datetime.now(UTC) - before).total_seconds() + 1
            await shown(0, Lane.RESCAN)
            await streams.remove_lane(broker, Lane.ADMISSION, "one")
            await streams.make_lane(broker, Lane.ADMISSION, "one")
            await shown(1)
            bundles.is_keeper = False
            await shown(None)
