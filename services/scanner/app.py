"""The scanner's composition root: builds everything from the configuration, closes it in reverse.

Each tenant has its own Anchore client, worker and two lanes, so that one tenant's outage or slowness
delays nobody else. Stop: pulling ends, scans under way are left unacknowledged and come again.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from services.scanner.anchore_v1 import AnchoreSettings, AnchoreV1, open_session
from services.scanner.bundles import Bundles
from services.scanner.config import ScannerConfig
from services.scanner.metrics import ScannerMetrics
from services.scanner.worker import Worker
from shared import contracts, logs, streams, subjects
from shared.broker import Broker, open_broker
from shared.consumer import Consumer, Work
from shared.contracts import ScanRequest
from shared.lifecycle import background
from shared.probes import Readiness, serve_probes
from shared.subjects import Lane
from shared.verdict_store import VerdictBuckets

_NEEDED = (
    subjects.SCANS,
    subjects.DEAD,
    *(streams.bucket_stream(name) for name in (subjects.VERDICTS, subjects.SCAN_STATES, subjects.TENANTS)),
)


async def run(config: ScannerConfig, stop: asyncio.Event) -> None:
    """Scan until `stop` is set. Raises `OSError` (an address in use)."""
    registry = CollectorRegistry()
    metrics = ScannerMetrics(registry)
    readiness = Readiness("nats", "streams")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serve_probes(config.metrics_listen, registry, readiness))
        broker = await stack.enter_async_context(open_broker(config.broker, config.source, metrics))
        starting = asyncio.create_task(_wait_for_streams(broker, readiness))
        asked_to_stop = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, asked_to_stop}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await starting
            work: list[Coroutine[Any, Any, None]] = []
            for tenant, settings in config.tenants.items():
                work += await _tenant(stack, config, tenant, settings, broker=broker, metrics=metrics)
            await stack.enter_async_context(background(*work))
            logs.logger("scanner").info("scanning", tenants=sorted(config.tenants))
            await stop.wait()
        starting.cancel()
        readiness.stop()


async def _wait_for_streams(broker: Broker, readiness: Readiness) -> None:
    await broker.connected()
    readiness.done("nats")
    await streams.wait_for_streams(broker, *_NEEDED)
    readiness.done("streams")


async def _tenant(
    stack: AsyncExitStack,
    config: ScannerConfig,
    tenant: str,
    settings: AnchoreSettings,
    *,
    broker: Broker,
    metrics: ScannerMetrics,
) -> list[Coroutine[Any, Any, None]]:
    """What has to run for one tenant: its bundles' record and a consumer for each lane."""
    session = await stack.enter_async_context(open_session(settings))
    anchore = AnchoreV1(session, settings, metrics)
    buckets = VerdictBuckets(broker)
    bundles = Bundles(tenant, anchore, buckets, ttl=config.rules.lifetimes.known)
    worker = Worker(
        tenant=tenant,
        anchore=anchore,
        buckets=buckets,
        bundles=bundles,
        rules=config.rules,
        pending_limit=config.pending_limit,
        metrics=metrics,
    )
    consumers = []
    for lane in Lane:
        make_lane = partial(_make_lane, broker, lane, tenant)
        await make_lane()
        work = _lane_work(lane, tenant, worker, bundles, config.concurrency)
        consumers.append(Consumer(broker, metrics, msgspec.structs.replace(work, mend=make_lane)))
    return [bundles.run(), *(consumer.run() for consumer in consumers)]


async def _make_lane(broker: Broker, lane: Lane, tenant: str) -> None:
    """The lane's durable, once the stream is there."""
    await streams.wait_for_streams(broker, *_NEEDED)
    await broker.jetstream.add_consumer(subjects.SCANS, streams.lane_consumer(lane, tenant))


def _lane_work(
    lane: Lane, tenant: str, worker: Worker, bundles: Bundles, concurrency: int
) -> Work[ScanRequest]:
    return Work(
        what="scan",
        stream=subjects.SCANS,
        durable=subjects.lane_durable(lane, tenant),
        decoder=contracts.SCAN_REQUEST,
        handle=worker.scan,
        probe=bundles.probe,
        concurrency=concurrency,
        ack_wait=streams.ACK_WAIT,
    )
