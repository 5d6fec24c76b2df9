"""The gateway's TLS port: where its certificate comes from, who looks after it, and the listener itself."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from services.gateway.config import GatewayConfig
from services.gateway.issuer import Issuer, IssuerTimes
from services.gateway.metrics import GatewayMetrics
from services.gateway.tls_secret import TlsSecret
from shared.certificates import LOOK_EVERY, CertificateFiles, Certificates, Door
from shared.cluster import Cluster
from shared.errors import BadSetting
from shared.probes import bound_address
from shared.settings import Listen

ANSWER_TIMEOUT = 8.0
"""Seconds for what is under way at the stop: longer than any wait for a verdict."""

IDLE_TIMEOUT = 120.0
"""Seconds a connection may wait for its next request, or take over its first one's headers: the API server itself closes
its own after 90 s, and one that closes under its request is a failed admission. aiohttp's own limit is an hour."""

LINGER_TIMEOUT = 2.0
"""Seconds in which the rest of a refused body is read, so that its sender hears why."""


class Tls:
    """Certificates of files, or of our own issuer where there are none."""

    def __init__(
        self, config: GatewayConfig, cluster: Cluster | None, metrics: GatewayMetrics, times: IssuerTimes
    ) -> None:
        """Without a cluster there are files: the configuration refuses all else."""
        files, namespace = config.tls_files, config.namespace
        self._issuer = None
        source: CertificateFiles | TlsSecret
        if files is not None:
            source, look_every = files, LOOK_EVERY
        elif cluster is not None:
            source, look_every = TlsSecret(cluster, namespace), min(LOOK_EVERY, times.look)
            self._issuer = Issuer(cluster, namespace, metrics, times)
        else:
            raise BadSetting("MOORGATE_TLS_CERT_FILE is not set: without a cluster it is required")
        self._certificates = Certificates(source, config.client_ca, metrics, look_every=look_every)

    def keep(self, ready: Callable[[], None]) -> Coroutine[Any, Any, None]:
        """What runs beside the listener; `ready` is called when there is a certificate."""
        return self._certificates.run(ready)

    def duties(self) -> list[Coroutine[Any, Any, None]]:
        """What the leader does for all gateways: issue, where nobody else does."""
        return [self._issuer.run()] if self._issuer else []

    @asynccontextmanager
    async def serve(self, server: Callable[..., web.Server], listen: Listen) -> AsyncIterator[Listen]:
        """The webhook on its port; at the end what is under way is answered first."""
        made = server(keepalive_timeout=IDLE_TIMEOUT, lingering_time=LINGER_TIMEOUT)
        runner = web.ServerRunner(made, shutdown_timeout=ANSWER_TIMEOUT, handle_signals=False)
        await runner.setup()
        try:
            door: Door = self._certificates.door
            await web.TCPSite(runner, listen.host, listen.port, ssl_context=door, backlog=1024).start()
            yield bound_address(runner)
        finally:
            await runner.cleanup()
