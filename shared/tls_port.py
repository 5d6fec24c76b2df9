"""A TLS port beside a service's main work: a certificate from files that may change, and connections that are bounded.

Whoever waits, be it with headers, in the middle of a body or between two requests, is sent away after a while; at
the stop what is under way is answered first. Who may ask what is the application's business.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from shared.certificates import CertificateFiles, Certificates, Door, DoorMetrics, require_usable
from shared.lifecycle import background
from shared.probes import bound_address
from shared.settings import Listen


class TlsPort(msgspec.Struct, frozen=True, kw_only=True):
    """Where a port listens, and how patient it is."""

    settings: str
    """What the names of its settings begin with."""
    listen: Listen
    files: CertificateFiles
    idle_timeout: float
    """Seconds a connection may wait for a request's headers. aiohttp's own limit is an hour."""
    leave_timeout: float
    """Seconds for what is under way at the stop, and for the rest of a body that was refused."""
    ends_with_caller: bool = False
    """Whether what is under way ends as soon as its caller has gone."""


@asynccontextmanager
async def serve_tls(
    port: TlsPort, application: web.Application, metrics: DoorMetrics
) -> AsyncIterator[Listen]:
    """Serve while the context is open; gives the address really bound. Raises `BadSetting`, `OSError`."""
    await require_usable(port.files, None, settings=port.settings)
    certificates = Certificates(port.files, None, metrics)
    await certificates.take()
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        handler_cancellation=port.ends_with_caller,
        shutdown_timeout=port.leave_timeout,
        keepalive_timeout=port.idle_timeout,
        lingering_time=port.leave_timeout,
    )
    await runner.setup()
    try:
        door: Door = certificates.door
        await web.TCPSite(runner, port.listen.host, port.listen.port, ssl_context=door).start()
        async with background(certificates.run(_nothing)):
            yield bound_address(runner)
    finally:
        await runner.cleanup()


def _nothing() -> None:
    """The certificate was taken before the port was opened."""
