"""How long the queues are, told by one scanner a tenant: the one whose turn it was to read the tenant's bundles.

Every scanner sees the same queue, and a sum over replicas would count it as often as there are replicas. Tenants are
no label, so this process adds up those that it speaks for.
"""

import asyncio
from datetime import UTC, datetime

from services.scanner.bundles import Bundles
from services.scanner.metrics import ScannerMetrics
from shared import logs, streams
from shared.broker import Broker
from shared.errors import Unavailable
from shared.subjects import Lane

INTERVAL = 10.0
"""Seconds between two looks: a scrape is rarely more often."""


class Queues:
    """The gauges of all lanes of this process."""

    def __init__(self, broker: Broker, metrics: ScannerMetrics) -> None:
        self._broker = broker
        self._metrics = metrics
        self._lengths: dict[Lane, dict[str, tuple[int, float]]] = {lane: {} for lane in Lane}
        """Requests and age in seconds of the oldest, by tenant."""
        self._log = logs.logger("queue")

    async def watch(self, tenant: str, bundles: Bundles) -> None:
        """Tell of one tenant's queues until cancelled."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                for lane in Lane:
                    await self._look(lane, tenant, is_ours=bundles.is_keeper)
        finally:
            for lane in Lane:
                self._lengths[lane].pop(tenant, None)
                self._show(lane)

    async def _look(self, lane: Lane, tenant: str, *, is_ours: bool) -> None:
        self._lengths[lane].pop(tenant, None)
        if is_ours:
            try:
                backlog = await streams.lane_backlog(self._broker, lane, tenant)
                oldest = await streams.oldest_request(self._broker, lane, tenant)
            except Unavailable as error:
                self._log.debug("queue_not_seen", error=str(error))
            else:
                age = (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0
                self._lengths[lane][tenant] = (backlog.waiting + backlog.put_off, max(0.0, age))
        self._show(lane)

    def _show(self, lane: Lane) -> None:
        lengths = self._lengths[lane].values()
        for gauge, value in (
            (self._metrics.queue_pending, sum(count for count, _ in lengths)),
            (self._metrics.queue_oldest, max((age for _, age in lengths), default=0.0)),
        ):
            if lengths:
                gauge.labels(lane.value).set(value)
            else:
                gauge.remove(lane.value)
