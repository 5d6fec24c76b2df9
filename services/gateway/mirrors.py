"""Everything the gateway keeps a copy of, so that an admission of what is known waits for no network.

Verdicts, scan states, tenants and what runs come from NATS, whitelist, policies and namespaces from the API
server (or a file: rule_sources.py). Ready means: what can let a Pod in or keep it out is complete; the verdicts are waited for only so
long, because NATS itself may be what the cluster needs a gateway for.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.gateway.metrics import GatewayMetrics
from services.gateway.rule_sources import RuleSource
from shared import logs, subjects
from shared.broker import Broker
from shared.buckets import BucketMirror
from shared.probes import Readiness
from shared.verdict_store import VerdictMirror

MIRROR_PATIENCE = 20.0
"""Seconds a gateway waits for its verdicts before it serves without."""


class Mirrors:
    """The copies, and what keeps them."""

    def __init__(self, broker: Broker, verdicts: VerdictMirror, rules: RuleSource) -> None:
        self.verdicts = verdicts
        self.rules = rules
        self._running = BucketMirror(broker, subjects.RUNNING)

    def is_running(self, key: str) -> bool:
        """Whether a digest runs in a namespace, by its key."""
        return self._running.get(key) is not None

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run to keep the copies."""
        return [
            *(each.run() for each in self.verdicts.mirrors),
            self._running.run(),
            *self.rules.work(),
        ]

    async def report_ready(self, readiness: Readiness, metrics: GatewayMetrics) -> None:
        """Tell what is complete as it becomes so; the verdicts also when they have not come for a while."""
        log = logs.logger("mirrors")
        complete = asyncio.gather(*(each.ready.wait() for each in self.verdicts.mirrors))
        async with asyncio.TaskGroup() as group:
            for part, event in self.rules.ready.items():
                group.create_task(_done(readiness, part, event))
            try:
                await asyncio.wait_for(asyncio.shield(complete), MIRROR_PATIENCE)
            except TimeoutError:
                metrics.degraded.labels("verdicts").set(1)
                log.warning("serving_without_verdicts", after=MIRROR_PATIENCE)
            readiness.done("verdicts")
            await complete
            metrics.degraded.labels("verdicts").set(0)
        log.info("mirrors_complete", verdicts=len(self.verdicts.verdicts))


async def _done(readiness: Readiness, part: str, event: asyncio.Event) -> None:
    await event.wait()
    readiness.done(part)
