"""The plain port of every service: /metrics, /healthz, /readyz and nothing else.

Liveness means that the event loop turns: answering is the proof. Readiness is a list of named
conditions; it is latched, so what was ready once stays so whatever happens to NATS, Anchore or the
API server, until the service itself begins to stop.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from shared.settings import Listen

IDLE_TIMEOUT = 330.0
"""Seconds a connection may wait for its next request: Prometheus keeps its own for 300. aiohttp's own limit is an hour."""


class Readiness:
    """What is still missing before traffic may come; each part reports by name."""

    def __init__(self, *parts: str) -> None:
        self._missing = dict.fromkeys(parts)
        self._stopping = False

    def done(self, part: str) -> None:
        """`part` is there, for good."""
        self._missing.pop(part, None)

    def stop(self) -> None:
        """The service begins to stop: no more traffic, please."""
        self._stopping = True

    @property
    def is_ready(self) -> bool:
        """True between the last missing part and the stop."""
        return not self._missing and not self._stopping

    def __str__(self) -> str:
        if self._stopping:
            return "stopping"
        return "waiting for " + ", ".join(self._missing) if self._missing else "ready"


@asynccontextmanager
async def serve_probes(
    listen: Listen, registry: CollectorRegistry, readiness: Readiness
) -> AsyncIterator[Listen]:
    """Serve the three paths while the context is open; gives the address really bound (port 0: a free one)."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text=f"{readiness}\n", status=200 if readiness.is_ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_TIMEOUT)
    await runner.setup()
    try:
        site = web.TCPSite(runner, listen.host, listen.port)
        await site.start()
        yield bound_address(runner)
    finally:
        await runner.cleanup()


def bound_address(runner: web.BaseRunner) -> Listen:
    """Where a started runner listens."""
    host, port, *_ = runner.addresses[0]
    return Listen(host=str(host), port=int(port))
