"""A receiver of Anchore's webhooks, and a simulator that posts to it when it is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.anchore import Simulator, anchore, client

BULK = "registry.example/bulk/a:1"


@dataclass
class Receiver:
    """Keeps what it is posted, and answers with the statuses it is told, 200 in the end."""

    url: str = ""
    posts: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    was_posted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.posts]

    @property
    def payloads(self) -> list[Any]:
        return [body["data"]["notification_payload"] for _, _, body in self.posts]

    async def take(self, request: web.Request) -> web.Response:
        self.posts.append((request.path, dict(request.headers), await request.json()))
        self.was_posted.set()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port of 127.0.0.1."""
    made = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def telling(
    receiver: Receiver, *kinds: str, **settings: Any
) -> AsyncIterator[tuple[Simulator, aiohttp.ClientSession]]:
    """A simulator that posts to the general webhook when it is told to, and watches the tag for these kinds."""
    webhooks = settings.pop(
        "webhooks", {"general": f"{receiver.url}/hooks/general/<notification_type>/<userId>"}
    )
    async with (
        anchore(**{"webhooks": webhooks, "notification_seconds": 0} | settings) as simulator,
        client(simulator) as api,
    ):
        if kinds:
            simulator.preload(BULK)
        for kind in kinds:
            await watch(api, kind)
        yield simulator, api


async def watch(api: aiohttp.ClientSession, kind: str) -> None:
    query = {"subscription_key": BULK, "subscription_type": kind}
    async with api.get("/v1/subscriptions", params=query) as response:
        [found] = await response.json()
    async with api.put(f"/v1/subscriptions/{found['subscription_id']}", json={"active": True}) as response:
        assert response.status == 200
