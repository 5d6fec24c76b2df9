"""What may stand before Anchore: a proxy that knows Anchore's password, and that can be told to answer with what it was sent.

To the services it wants another password than the simulator's, so that what is looked for afterwards is found nowhere by chance.
"""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

SIMULATOR = "Basic " + base64.b64encode(b"admin:foobar").decode()
"""The simulator's own user."""


@dataclass
class EchoingProxy:
    """Passes on, or echoes."""

    upstream: str
    mode: str = "pass"
    """`pass`, `reset`, `garble`, or a status to answer with, and with it everything that came."""
    url: str = ""
    seen: list[str] = field(default_factory=list)
    """What it echoed."""

    @asynccontextmanager
    async def running(self, port: int) -> AsyncIterator["EchoingProxy"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as self._session:
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        given = request.headers.get("Authorization", "")
        if self.mode == "pass":
            return await self._pass_on(request, body)
        decoded = base64.b64decode(given.removeprefix("Basic ") or b"").decode()
        sent = "\n".join([*(f"{name}: {value}" for name, value in request.headers.items()), decoded, body])
        self.seen.append(sent)
        if self.mode in {"reset", "garble"} and request.transport is not None:
            if self.mode == "garble":
                request.transport.write(f"Authorization: {given}\r\n{decoded}\r\n\r\n".encode())
                request.transport.close()
            else:
                request.transport.abort()
            return web.Response()
        if int(self.mode) % 2:  # odd ones as Anchore writes errors, even ones as a proxy does
            shown = {"message": sent, "detail": {"error_codes": []}, "httpcode": int(self.mode)}
            return web.json_response(shown, status=int(self.mode))
        return web.Response(text=sent, status=int(self.mode))

    async def _pass_on(self, request: web.Request, body: str) -> web.Response:
        headers = {"Authorization": SIMULATOR, "Content-Type": request.content_type}
        async with self._session.request(
            request.method, f"{self.upstream}{request.path_qs}", data=body.encode(), headers=headers
        ) as answer:
            return web.Response(
                body=await answer.read(), status=answer.status, content_type=answer.content_type
            )
