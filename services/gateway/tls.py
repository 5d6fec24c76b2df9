"""The gateway's TLS port: where its certificate comes from, who looks after it, and the listener itself."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from services.gateway.config import GatewayConfig
from services.gateway.issuer import Issuer, IssuerTimes
from services.gateway.metrics import GatewayMetrics
from services.gateway.tls_secret import TlsSecret
from shared.certificates import LOOK_EVERY, Certificates, Door
from shared.cluster import Cluster
from shared.probes import bound_address
from shared.settings import Listen

ANSWER_TIMEOUT = 8.0
"""Seconds for what is under way at the stop: longer than any wait for a verdict."""


class Tls:
    """Certificates of files, or of our own issuer where there are none."""

    def __init__(
        self, config: GatewayConfig, cluster: Cluster, metrics: GatewayMetrics, times: IssuerTimes
    ) -> None:
        files, namespace = config.tls_files, config.namespace
        source = files or TlsSecret(cluster, namespace)
        look_every = LOOK_EVERY if files else min(LOOK_EVERY, times.look)
        self._certificates = Certificates(source, config.client_ca, metrics, look_every=look_every)
        self._issuer = None if files else Issuer(cluster, namespace, metrics, times)

    def keep(self, ready: Callable[[], None]) -> Coroutine[Any, Any, None]:
        """What runs beside the listener; `ready` is called when there is a certificate."""
        return self._certificates.run(ready)

    def duties(self) -> list[Coroutine[Any, Any, None]]:
        """What the leader does for all gateways: issue, where nobody else does."""
        return [self._issuer.run()] if self._issuer else []

    @asynccontextmanager
    async def serve(self, app: web.Application, listen: Listen) -> AsyncIterator[Listen]:
        """The webhook on its port; at the end what is under way is answered first."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=ANSWER_TIMEOUT, handle_signals=False)
        await runner.setup()
        try:
            door: Door = self._certificates.door
            await web.TCPSite(runner, listen.host, listen.port, ssl_context=door, backlog=1024).start()
            yield bound_address(runner)
        finally:
            await runner.cleanup()
