"""The limit of the gateway's server: the very same one behind the same TLS door, reading the body and answering a fixed one.

`python -m tests.bench.limit_server PORT CERTIFICATE KEY ANSWER`. Whatever the gateway costs above this is its own work.
With `application` at the end it is aiohttp with its routing, as a web application is usually written.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from services.gateway.webhook import MAX_BODY, base_request
from shared import lifecycle
from shared.certificates import CertificateFiles, Door, server_context


async def serve(stop: asyncio.Event) -> None:
    """Until asked to stop."""
    port, certificate, key, answer, *kind = sys.argv[1:]
    body = await asyncio.to_thread(Path(answer).read_bytes)

    async def imagecheck(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    runner = _application(imagecheck) if kind else _bare(imagecheck)
    door = Door()
    door.current = server_context(await CertificateFiles(Path(certificate), Path(key)).read(), None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", int(port), ssl_context=door, backlog=1024).start()
        await stop.wait()
    finally:
        await runner.cleanup()


def _bare(handler: Callable[[web.BaseRequest], Awaitable[web.Response]]) -> web.BaseRunner:
    server = web.Server(handler, request_factory=base_request, access_log=None)
    return web.ServerRunner(server, handle_signals=False)


def _application(handler: Callable[[web.Request], Awaitable[web.Response]]) -> web.BaseRunner:
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/imagecheck/{secret}", handler)
    return web.AppRunner(app, access_log=None, handle_signals=False)


if __name__ == "__main__":
    sys.exit(lifecycle.run(serve))
