"""Everything the gateway keeps a copy of, so that an admission of what is known waits for no network.

Verdicts, scan states, tenants and what runs come from NATS, whitelist, policies and namespaces from the API
server. Ready means: what can let a Pod in or keep it out is complete; the verdicts are waited for only so
long, because NATS itself may be what the cluster needs a gateway for.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.gateway.image_policies import PATH as POLICIES_PATH
from services.gateway.image_policies import ImagePolicies, ImagePolicy
from services.gateway.metrics import GatewayMetrics
from services.gateway.namespaces import PATH as NAMESPACES_PATH
from services.gateway.namespaces import Namespace, Namespaces
from shared import logs, subjects
from shared.broker import Broker
from shared.buckets import BucketMirror
from shared.cluster import Cluster
from shared.crds import WHITELIST_PATH, WhiteListItem
from shared.policies import Rule
from shared.probes import Readiness
from shared.verdict_store import VerdictMirror
from shared.watches import Watch
from shared.whitelist import Whitelist

MIRROR_PATIENCE = 20.0
"""Seconds a gateway waits for its verdicts before it serves without."""

PARTS = ("whitelist", "policies", "namespaces", "verdicts")
"""What readiness waits for."""


class Mirrors:
    """The copies, and what keeps them."""

    def __init__(
        self, cluster: Cluster, broker: Broker, defaults: Rule, *, whitelist_cluster_wide: bool
    ) -> None:
        self.verdicts = VerdictMirror(broker)
        self.whitelist = Whitelist(cluster_wide=whitelist_cluster_wide)
        self.policies = ImagePolicies(defaults)
        self.namespaces = Namespaces(cluster)
        self._running = BucketMirror(broker, subjects.RUNNING)
        self._whitelist_watch = Watch(cluster, WHITELIST_PATH, WhiteListItem, self.whitelist)
        self._policies_watch = Watch(cluster, POLICIES_PATH, ImagePolicy, self.policies)
        self._namespaces_watch = Watch(cluster, NAMESPACES_PATH, Namespace, self.namespaces)

    def is_running(self, key: str) -> bool:
        """Whether a digest runs in a namespace, by its key."""
        return self._running.get(key) is not None

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run to keep the copies."""
        return [
            *(each.run() for each in self.verdicts.mirrors),
            self._running.run(),
            self._whitelist_watch.run(),
            self._policies_watch.run(),
            self._namespaces_watch.run(),
        ]

    async def report_ready(self, readiness: Readiness, metrics: GatewayMetrics) -> None:
        """Tell what is complete as it becomes so; the verdicts also when they have not come for a while."""
        log = logs.logger("mirrors")
        complete = asyncio.gather(*(each.ready.wait() for each in self.verdicts.mirrors))
        async with asyncio.TaskGroup() as group:
            group.create_task(_done(readiness, "whitelist", self._whitelist_watch.ready))
            group.create_task(_done(readiness, "policies", self._policies_watch.ready))
            group.create_task(_done(readiness, "namespaces", self._namespaces_watch.ready))
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
