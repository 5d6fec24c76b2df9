"""Where whitelist, policies and namespaces come from: watched in the cluster, or, without one, a file and nothing.

Both keep the same copies, which are all that an admission looks at; what differs is who fills them. Without a cluster
there is no whitelist (its items are somebody's signature, which a file does not carry), and a policy that names a tenant
or bundle nobody serves has no condition to say so: it is logged, and shown by `moorgate_degraded{part="policies"}`.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from services.gateway import policies_file
from services.gateway.config import GatewayConfig
from services.gateway.image_policies import PATH as POLICIES_PATH
from services.gateway.image_policies import ImagePolicies, ImagePolicy
from services.gateway.metrics import GatewayMetrics
from services.gateway.namespaces import PATH as NAMESPACES_PATH
from services.gateway.namespaces import NamesOnly, Namespace, NamespaceLabels, Namespaces
from shared import logs
from shared.cluster import Cluster
from shared.crds import WHITELIST_PATH, WhiteListItem
from shared.errors import BadSetting
from shared.policies import Rule
from shared.verdict_store import VerdictMirror
from shared.watches import Watch
from shared.whitelist import Whitelist

PARTS = ("whitelist", "policies", "namespaces")
"""What readiness waits for."""

LOOK = 5.0
"""Seconds between two looks at the file."""


class RuleSource(Protocol):
    """The copies, and what fills them."""

    whitelist: Whitelist
    policies: ImagePolicies
    ready: Mapping[str, asyncio.Event]
    """Set once the part is complete."""

    @property
    def namespaces(self) -> NamespaceLabels: ...  # noqa: D102

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run to keep the copies."""


def rule_source(
    config: GatewayConfig, cluster: Cluster | None, verdicts: VerdictMirror, metrics: GatewayMetrics
) -> RuleSource:
    """The cluster's rules, or without one the file's. Raises `BadSetting`."""
    if cluster is None:
        return FiledRules(config.policies_file, config.defaults, verdicts, metrics)
    return WatchedRules(cluster, config.defaults, whitelist_cluster_wide=config.whitelist_cluster_wide)


class WatchedRules:
    """The API server's."""

    def __init__(self, cluster: Cluster, defaults: Rule, *, whitelist_cluster_wide: bool) -> None:
        self.whitelist = Whitelist(cluster_wide=whitelist_cluster_wide)
        self.policies = ImagePolicies(defaults)
        self.namespaces = Namespaces(cluster)
        whitelist = Watch(cluster, WHITELIST_PATH, WhiteListItem, self.whitelist)
        policies = Watch(cluster, POLICIES_PATH, ImagePolicy, self.policies)
        namespaces = Watch(cluster, NAMESPACES_PATH, Namespace, self.namespaces)
        self.ready: Mapping[str, asyncio.Event] = dict(
            zip(PARTS, (whitelist.ready, policies.ready, namespaces.ready), strict=True)
        )
        self._runs = (whitelist.run, policies.run, namespaces.run)

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """The watches."""
        return [run() for run in self._runs]


class FiledRules:
    """The file's policies, read again when it changes; no whitelist, and of namespaces the names."""

    def __init__(
        self, path: Path | None, defaults: Rule, verdicts: VerdictMirror, metrics: GatewayMetrics
    ) -> None:
        """Raises `BadSetting` for a file that cannot be used."""
        self.whitelist = Whitelist(cluster_wide=False)
        self.policies = ImagePolicies(defaults)
        self.namespaces = NamesOnly()
        self.ready: Mapping[str, asyncio.Event] = {part: asyncio.Event() for part in PARTS}
        self._path = path
        self._verdicts = verdicts
        self._degraded = metrics.degraded.labels("policies")
        self._log = logs.logger("policies_file")
        self._said: object = None
        self._items: list[ImagePolicy] = []
        self._take(policies_file.read(path) if path else [])
        for part in self.ready.values():
            part.set()

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """The looks at the file."""
        return [self._keep(self._path)] if self._path else []

    async def _keep(self, path: Path) -> None:
        while True:
            await asyncio.sleep(LOOK)
            fault = ""
            try:
                found = await asyncio.to_thread(policies_file.read, path)
            except BadSetting as error:
                fault = str(error)
            else:
                self._take(found)
            # Before the tenants are read, every policy would seem to name one that nobody serves.
            knows = self._verdicts.tenants.ready.is_set()
            self._tell(fault, self.policies.out_of_force(self._verdicts.tenant) if knows else {})

    def _take(self, items: list[ImagePolicy]) -> None:
        if items != self._items:
            self.policies.replace(items)
            self._items = items
            self._log.info("policies_read", policies=[item.metadata.name for item in items])

    def _tell(self, fault: str, out_of_force: dict[str, str]) -> None:
        """Once for each change: what is wrong is looked at every few seconds."""
        self._degraded.set(int(bool(fault or out_of_force)))
        if self._said == (fault, out_of_force):
            return
        self._said = fault, out_of_force
        if fault:
            self._log.warning("policies_not_read", error=fault, then="the policies stay as they are")
        for policy, why in out_of_force.items():
            self._log.warning(
                "policy_not_in_force", policy=policy, why=why, then="the process defaults decide"
            )
