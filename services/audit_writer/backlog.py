"""How many decisions are not in an Audit yet: while the API server is away, no Audit's lag can tell.

Every replica tells the same number, the leader or not: without an API server nobody leads.
"""

import asyncio

from services.audit_writer.metrics import AuditWriterMetrics
from shared import logs, streams
from shared.broker import Broker
from shared.errors import Unavailable

INTERVAL = 10.0
"""Seconds between two looks: a scrape is rarely more often."""


async def watch(broker: Broker, metrics: AuditWriterMetrics) -> None:
    """Tell until cancelled; where NATS cannot be asked the last number stays."""
    await broker.connected()
    while True:
        try:
            backlog = await streams.decision_backlog(broker)
        except Unavailable as error:
            logs.logger("backlog").debug("decisions_not_counted", error=str(error))
        else:
            metrics.decisions_waiting.set(backlog.waiting + backlog.put_off)
        await asyncio.sleep(INTERVAL)
