"""The scanner's composition root: builds everything from the configuration, closes it in reverse.

Stop: pulling ends, and scans under way are given back to whoever scans on.
"""

import asyncio
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from services.scanner.config import ScannerConfig
from services.scanner.hints import Hints
from services.scanner.metrics import NotificationMetrics, ScannerMetrics
from services.scanner.notifications import serve_notifications
from services.scanner.tenants import Tenants
from shared import streams, subjects
from shared.broker import Broker, open_broker
from shared.lifecycle import background
from shared.probes import Readiness, serve_probes

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
            hints = None
            if config.notifications:
                told = NotificationMetrics(registry, metrics)
                hints = Hints(broker, told)
                await stack.enter_async_context(serve_notifications(config.notifications, hints, told))
            await stack.enter_async_context(background(Tenants(config, broker, metrics, hints).run()))
            await stop.wait()
        starting.cancel()
        readiness.stop()


async def _wait_for_streams(broker: Broker, readiness: Readiness) -> None:
    await broker.connected()
    readiness.done("nats")
    await streams.wait_for_streams(broker, *_NEEDED)
    readiness.done("streams")
