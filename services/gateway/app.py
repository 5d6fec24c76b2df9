"""The gateway's composition root: builds everything from the configuration, closes it in reverse.

Stop, in order: not ready → no new connections, those under way are answered → the outbox is drained →
NATS, the cluster and the probes close.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry

from services.gateway.certificates import server_context
from services.gateway.config import GatewayConfig
from services.gateway.gate import Gate
from services.gateway.metrics import GatewayMetrics
from services.gateway.outbox import Outbox
from services.gateway.verdict_lookup import VerdictLookup
from services.gateway.webhook import Webhook
from services.gateway.whitelist import Whitelist
from shared import logs
from shared.broker import open_broker
from shared.cluster import open_cluster
from shared.crds import WHITELIST_PATH, WhiteListItem
from shared.lifecycle import background
from shared.probes import Readiness, bound_address, serve_probes
from shared.settings import Listen
from shared.verdict_store import VerdictMirror
from shared.watches import Watch

MIRROR_PATIENCE = 20.0
"""Seconds a gateway waits for its verdicts before it serves without: NATS may be what the cluster needs it for."""

ANSWER_TIMEOUT = 8.0
"""Seconds for what is under way at the stop: longer than any wait for a verdict."""

DRAIN_TIMEOUT = 10.0
"""Seconds for the outbox at the stop."""


async def run(config: GatewayConfig, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises `BadSetting`, `OSError` (an address in use)."""
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    readiness = Readiness("whitelist", "verdicts", "webhook")
    tls = server_context(config.tls_cert, config.tls_key, config.client_ca)
    async with AsyncExitStack() as stack:
        probes = await stack.enter_async_context(serve_probes(config.metrics_listen, registry, readiness))
        cluster = await stack.enter_async_context(open_cluster())
        broker = await stack.enter_async_context(open_broker(config.broker, config.source, metrics))

        mirror = VerdictMirror(broker)
        whitelist = Whitelist(cluster_wide=config.whitelist_cluster_wide)
        watch = Watch(cluster, WHITELIST_PATH, WhiteListItem, whitelist)
        outbox = Outbox(broker, metrics)
        gate = Gate(
            whitelist=whitelist,
            defaults=config.defaults,
            release_labels=config.release_labels,
            lookup=VerdictLookup(mirror, broker, metrics),
            outbox=outbox,
            metrics=metrics,
        )
        webhook = Webhook(
            gate,
            metrics,
            max_wait=config.max_wait,
            margin=config.deadline_margin,
            secret=config.path_secret,
        )
        metrics.mirror_entries.set_function(lambda: len(mirror.verdicts))
        await stack.enter_async_context(
            background(
                outbox.run(),
                watch.run(),
                *(each.run() for each in mirror.mirrors),
                _report_ready(readiness, watch, mirror, metrics),
            )
        )
        stack.push_async_callback(outbox.drain, DRAIN_TIMEOUT)
        address = await stack.enter_async_context(_serve(webhook.application(), config.listen, tls))
        readiness.done("webhook")
        logs.logger("gateway").info(
            "serving", webhook=f"{address.host}:{address.port}", probes=f"{probes.host}:{probes.port}"
        )
        await stop.wait()
        readiness.stop()


@asynccontextmanager
async def _serve(app: web.Application, listen: Listen, tls: ssl.SSLContext) -> AsyncIterator[Listen]:
    """The webhook on its TLS port; at the end what is under way is answered first."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=ANSWER_TIMEOUT, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, listen.host, listen.port, ssl_context=tls, backlog=1024).start()
        yield bound_address(runner)
    finally:
        await runner.cleanup()


async def _report_ready(
    readiness: Readiness, watch: "Watch[WhiteListItem]", mirror: VerdictMirror, metrics: GatewayMetrics
) -> None:
    """Ready once the whitelist is complete and the verdicts are, or have not come for a while."""
    log = logs.logger("gateway")
    complete = asyncio.gather(*(each.ready.wait() for each in mirror.mirrors))
    try:
        await asyncio.wait_for(asyncio.shield(complete), MIRROR_PATIENCE)
    except TimeoutError:
        metrics.degraded.labels("verdicts").set(1)
        log.warning("serving_without_verdicts", after=MIRROR_PATIENCE)
    await watch.ready.wait()
    readiness.done("whitelist")
    readiness.done("verdicts")
    await complete
    metrics.degraded.labels("verdicts").set(0)
    log.info("mirrors_complete")
