"""The gateway's composition root: builds everything from the configuration, closes it in reverse.

Stop, in order: not ready → connections are seen off → no new ones, what is under way is answered → the outbox
is drained → leadership is given back → NATS, the cluster and the probes close.
"""

import asyncio
import time
from contextlib import AsyncExitStack

from prometheus_client import CollectorRegistry

from services.gateway.config import GatewayConfig
from services.gateway.gate import Gate
from services.gateway.image_policies import report_conditions
from services.gateway.issuer import IssuerTimes
from services.gateway.judge import Judge
from services.gateway.metrics import GatewayMetrics
from services.gateway.mirrors import Mirrors
from services.gateway.outbox import open_outbox
from services.gateway.registered import watch_registration
from services.gateway.rule_sources import PARTS, rule_source
from services.gateway.scan_rates import ScanRates
from services.gateway.tls import Tls
from services.gateway.verdict_answers import VerdictAnswers
from services.gateway.verdict_lookup import VerdictLookup
from services.gateway.verdict_service import VerdictService
from services.gateway.webhook import Webhook
from shared import logs
from shared.broker import open_broker
from shared.certificates import require_usable
from shared.cluster import Cluster, open_cluster
from shared.leases import Leadership
from shared.lifecycle import background
from shared.probes import Readiness, serve_probes
from shared.verdict_store import VerdictMirror

LAME_DUCK = 3.0
"""Seconds between unready and closed, in which connections are seen off: the API server keeps its own open and
posts on them, and one that closes under its request is a failed admission."""

LEASE = "moorgate-gateway"
"""Held by the gateway that looks after what all gateways share."""


async def run(config: GatewayConfig, stop: asyncio.Event, times: IssuerTimes | None = None) -> None:
    """Serve until `stop` is set. Raises `BadSetting`, `OSError` (an address in use)."""
    times = times or IssuerTimes()
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    readiness = Readiness(*PARTS, "verdicts", "certificate", "webhook")
    await require_usable(config.tls_files, config.client_ca)
    async with AsyncExitStack() as stack:
        probes = await stack.enter_async_context(serve_probes(config.metrics_listen, registry, readiness))
        cluster = await stack.enter_async_context(open_cluster()) if config.has_cluster else None
        broker = await stack.enter_async_context(open_broker(config.broker, config.source, metrics))

        verdicts = VerdictMirror(broker)
        rules = rule_source(config, cluster, verdicts, metrics)
        mirrors = Mirrors(broker, verdicts, rules)
        outbox = await stack.enter_async_context(open_outbox(config.outbox, broker, metrics))
        rates = ScanRates(config.scan_rate, time.monotonic)
        lookup = VerdictLookup(verdicts, broker, rates, metrics)
        judge = Judge(
            policies=rules.policies,
            namespaces=rules.namespaces,
            lookup=lookup,
            tenants=verdicts.tenant,
            is_running=mirrors.is_running,
        )
        gate = Gate(
            whitelist=rules.whitelist, release_labels=config.release_labels, judge=judge, outbox=outbox
        )
        webhook = Webhook(
            gate,
            metrics,
            max_wait=config.max_wait,
            margin=config.deadline_margin,
            secret=config.path_secret,
        )
        tls = Tls(config, cluster, metrics, times)
        metrics.watch(verdicts)

        await stack.enter_async_context(
            background(
                outbox.run(),
                *mirrors.work(),
                mirrors.report_ready(readiness, metrics),
                tls.keep(lambda: readiness.done("certificate")),
                *(
                    [_lead(cluster, config=config, mirrors=mirrors, tls=tls, metrics=metrics, times=times)]
                    if cluster
                    else []
                ),
            )
        )
        stack.push_async_callback(outbox.drain)
        answers = VerdictAnswers(lookup)
        await stack.enter_async_context(VerdictService(broker, verdicts, answers, metrics).serve())
        address = await stack.enter_async_context(tls.serve(webhook.server, config.listen))
        readiness.done("webhook")
        logs.logger("gateway").info(
            "serving", webhook=f"{address.host}:{address.port}", probes=f"{probes.host}:{probes.port}"
        )
        await stop.wait()
        readiness.stop()
        await webhook.leave(LAME_DUCK)


async def _lead(
    cluster: Cluster,
    *,
    config: GatewayConfig,
    mirrors: Mirrors,
    tls: Tls,
    metrics: GatewayMetrics,
    times: IssuerTimes,
) -> None:
    """What one gateway does for all."""
    leadership = Leadership(cluster, config.namespace, LEASE, times.lease)
    metrics.leading.labels(LEASE).set_function(lambda: leadership.is_leading)
    tenants = mirrors.verdicts.tenants

    async def report() -> None:
        """Before the tenants are read, every policy would seem to name one that nobody serves."""
        await tenants.ready.wait()
        await report_conditions(cluster, mirrors.rules.policies, mirrors.verdicts.tenant)

    async def lead() -> None:
        async with background(
            report(), watch_registration(cluster, config.namespace, metrics), *tls.duties()
        ):
            await asyncio.Event().wait()

    await leadership.run(lead)
