"""The audit-writer's composition root: builds everything from the configuration, closes it in reverse.

Stop, in order: not ready → no more deliveries, those under way are left unacknowledged (another replica
gets them after the ack wait, and folding twice changes nothing) → NATS, the cluster and the probes close.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

from prometheus_client import CollectorRegistry

from services.audit_writer import backlog, taking
from services.audit_writer.cluster import AuditCluster
from services.audit_writer.clusterless import CompletingRecorder
from services.audit_writer.config import AuditWriterConfig
from services.audit_writer.folds import Folds
from services.audit_writer.inventory import Inventory
from services.audit_writer.leader import Leader
from services.audit_writer.lines import AuditLines, OwnersByClaim
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.notifications.notifier import open_notifiers
from services.audit_writer.open_reports import OpenReports, ReportKind
from services.audit_writer.owners import Owners
from services.audit_writer.rates import WriteRate
from services.audit_writer.recorder import Recorder
from services.audit_writer.retention import Retention
from services.audit_writer.running import Running
from shared import logs, subjects
from shared.broker import Broker, open_broker
from shared.buckets import Bucket
from shared.cluster import open_cluster
from shared.consumer import Consumer
from shared.leases import Leadership
from shared.lifecycle import background
from shared.probes import Readiness, serve_probes
from shared.verdict_store import VerdictMirror

LEASE = "moorgate-audit-writer"
"""Held by the audit-writer that takes the inventory."""

Duty = Coroutine[Any, Any, None]
"""What runs until the stop."""


async def run(config: AuditWriterConfig, stop: asyncio.Event) -> None:
    """Write Audits until `stop` is set. Raises `BadSetting`, `OSError` (an address in use, stdout gone)."""
    registry = CollectorRegistry()
    metrics = AuditWriterMetrics(registry)
    readiness = Readiness("streams", "audits")
    async with AsyncExitStack() as stack:
        probes = await stack.enter_async_context(serve_probes(config.metrics_listen, registry, readiness))
        broker = await stack.enter_async_context(open_broker(config.broker, config.source, metrics))
        duties = (
            await _with_cluster(stack, config, broker, metrics, readiness)
            if config.has_cluster
            else _without_cluster(broker, metrics, readiness)
        )
        await stack.enter_async_context(background(*duties, backlog.watch(broker, metrics)))
        logs.logger("audit-writer").info("started", probes=f"{probes.host}:{probes.port}")
        await stop.wait()
        readiness.stop()


async def _with_cluster(
    stack: AsyncExitStack,
    config: AuditWriterConfig,
    broker: Broker,
    metrics: AuditWriterMetrics,
    readiness: Readiness,
) -> list[Duty]:
    """Audits as objects, and all that is about what runs."""
    api_server = await stack.enter_async_context(open_cluster())
    rate = WriteRate()
    cluster = AuditCluster(api_server, rate)
    owners = Owners(cluster)
    has_reports = config.reports is ReportKind.OPENREPORTS
    folds = Folds(cluster, owners, metrics, OpenReports(api_server, rate, metrics) if has_reports else None)
    recorder = Recorder(folds, owners, metrics)
    consumer = Consumer(broker, metrics, taking.work(recorder.record, cluster.answers))
    running = Running()
    inventory = Inventory(
        api_server,
        Bucket(broker, subjects.RUNNING),
        running,
        metrics,
        interval=config.inventory_interval,
        release_labels=config.release_labels,
    )
    leader = Leader(
        config,
        api_server=api_server,
        cluster=cluster,
        rate=rate,
        folds=folds,
        owners=owners,
        broker=broker,
        running=running,
        inventory=inventory,
        metrics=metrics,
    )
    leadership = Leadership(api_server, config.namespace, LEASE)
    metrics.leading.labels(LEASE).set_function(lambda: leadership.is_leading)
    page: list[Duty] = []
    if config.page:
        from services.audit_writer.page.server import open_page  # noqa: PLC0415  templates and a TLS port: only where it is on

        page = await open_page(
            stack, config.page, api_server=api_server, audits=cluster, broker=broker, common=metrics
        )
    return [
        taking.consume(broker, cluster, consumer, readiness),
        Retention(cluster, config.retention).run(),
        leadership.run(leader.run),
        *await open_notifiers(stack, config.notify, broker, metrics),
        *page,
    ]


def _without_cluster(broker: Broker, metrics: AuditWriterMetrics, readiness: Readiness) -> list[Duty]:
    """Audits as lines on stdout."""
    lines, owners, mirror = AuditLines(), OwnersByClaim(), VerdictMirror(broker)
    folds = Folds(lines, owners, metrics)
    recorder = CompletingRecorder(Recorder(folds, owners, metrics), folds, lines, owners, mirror)
    consumer = Consumer(broker, metrics, taking.work(recorder.record, lines.answers))
    readiness.done("audits")
    return [
        lines.run(),
        *(each.run() for each in mirror.mirrors),
        taking.complete(broker, mirror, consumer, readiness),
    ]
