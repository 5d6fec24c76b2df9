"""The limit of the gateway's server: aiohttp on uvloop behind the same TLS door, answering a fixed body.

`python -m tests.bench.limit_server PORT CERTIFICATE KEY ANSWER`. Whatever the gateway costs above this is its own work.
"""

import asyncio
import sys
from pathlib import Path

from aiohttp import web

from services.gateway.webhook import MAX_BODY
from shared import lifecycle
from shared.certificates import CertificateFiles, Door, server_context


async def serve(stop: asyncio.Event) -> None:
    """Until asked to stop."""
    port, certificate, key, answer = sys.argv[1:]
    body = await asyncio.to_thread(Path(answer).read_bytes)

    async def imagecheck(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/imagecheck/{secret}", imagecheck)
    door = Door()
    door.current = server_context(await CertificateFiles(Path(certificate), Path(key)).read(), None)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", int(port), ssl_context=door, backlog=1024).start()
        await stop.wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(lifecycle.run(serve))
