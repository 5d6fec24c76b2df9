"""What one audit-writer does for all: inventory, re-scans, flips, and the completion of records.

The copies of verdicts, tenants, policies and whitelist are the leader's own and begin anew with each term: who does not
lead needs no memory for them, and nothing is judged by what an earlier term left behind.
"""

import asyncio
from typing import Protocol

from services.audit_writer.cluster import AuditCluster
from services.audit_writer.config import AuditWriterConfig
from services.audit_writer.events import Events
from services.audit_writer.folds import Folds
from services.audit_writer.inventory import Inventory
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.outlook import Outlook
from services.audit_writer.overview import Overview
from services.audit_writer.owners import Owners
from services.audit_writer.rates import WriteRate
from services.audit_writer.rescans import Rescans
from services.audit_writer.reviews import Reviews
from services.audit_writer.running import Running
from shared import image_policies
from shared.broker import Broker
from shared.cluster import Cluster
from shared.crds import COMPLETE_LABEL, WHITELIST_PATH, Audit, WhiteListItem, audits_path
from shared.image_policies import ImagePolicy, PolicyFeed
from shared.lifecycle import background
from shared.verdict_store import VerdictMirror
from shared.watches import Watch
from shared.whitelist import Whitelist


class _Copy(Protocol):
    ready: asyncio.Event

    async def run(self) -> None: ...


class Leader:
    """The duties of the Lease's holder."""

    def __init__(
        self,
        config: AuditWriterConfig,
        *,
        api_server: Cluster,
        cluster: AuditCluster,
        rate: WriteRate,
        folds: Folds,
        owners: Owners,
        broker: Broker,
        running: Running,
        inventory: Inventory,
        metrics: AuditWriterMetrics,
    ) -> None:
        policies, whitelist = (
            PolicyFeed(config.defaults),
            Whitelist(cluster_wide=config.whitelist_cluster_wide),
        )
        self._inventory = inventory
        self._mirror = VerdictMirror(broker)
        self._policies = Watch(api_server, image_policies.PATH, ImagePolicy, policies)
        self._whitelist = Watch(api_server, WHITELIST_PATH, WhiteListItem, whitelist)
        self._outlook = Outlook(running, self._mirror, policies, whitelist)
        self._overview = Overview(
            api_server=api_server,
            cluster=cluster,
            folds=folds,
            owners=owners,
            running=running,
            policies=policies,
            tenants=self._mirror.tenant,
        )
        self._rescans = Rescans(self._outlook, broker, config.rescan_interval, metrics)
        self._reviews = Reviews(
            outlook=self._outlook,
            rescans=self._rescans,
            cluster=cluster,
            folds=folds,
            events=Events(api_server, rate, config.source),
            broker=broker,
            metrics=metrics,
            hurry=inventory.hurry,
        )
        self._incomplete = Watch(
            api_server, audits_path(), Audit, self._reviews, selector=f"{COMPLETE_LABEL}=false"
        )

    async def run(self) -> None:
        """Lead until cancelled."""
        copies: list[_Copy] = [*self._mirror.mirrors, self._policies, self._whitelist]
        for copy in copies:
            copy.ready.clear()
        async with background(self._inventory.run(), *(copy.run() for copy in copies)):
            for copy in copies:
                await copy.ready.wait()
            duties = (self._outlook, self._rescans, self._reviews, self._incomplete, self._overview)
            async with background(*(duty.run() for duty in duties)):
                await asyncio.Event().wait()
