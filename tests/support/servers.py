"""An aiohttp server without routing, for aiohttp's test client, which by itself only knows applications."""

from typing import Any

from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestClient

from services.gateway.webhook import Webhook


class LowLevelServer(BaseTestServer):
    """A `web.Server` on a port of its own."""

    def __init__(self, server: "web.Server") -> None:
        super().__init__()
        self._server = server

    async def _make_runner(self, **options: Any) -> web.BaseRunner:
        return web.ServerRunner(self._server, **options)


def client_of(webhook: Webhook) -> TestClient[Any, Any]:
    """Somebody who calls the webhook."""
    return TestClient(LowLevelServer(webhook.server()))
