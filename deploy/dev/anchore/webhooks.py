"""Posts notifications: all that wait, at each run. What a receiver doesn't take with a 2xx is tried again at the next run.

A notification that has waited longer than `notification_retry_timeout` is dropped after one more try. The engine's receiver has
two seconds for its answer; its certificate isn't verified unless a setting says so. There is no order between notifications.
"""

import asyncio
import logging

import aiohttp

from deploy.dev.anchore.engine import Engine
from deploy.dev.anchore.outbox import Delivery, Hook
from deploy.dev.anchore.wire import JsonObject, encode

_log = logging.getLogger(__name__)

_PATIENCE = aiohttp.ClientTimeout(total=2.0)


class Postman:
    """Runs at intervals, and when it is told to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._running = asyncio.Lock()

    async def go_round(self) -> None:
        """Run again and again, by the machine's clock."""
        while self._engine.settings.notification_seconds > 0:
            await asyncio.sleep(self._engine.settings.notification_seconds)
            await self.deliver()

    async def deliver(self) -> int:
        """One run; how many deliveries were taken."""
        self._engine.catch_up()
        outbox = self._engine.outbox
        if not outbox.deliveries:
            return 0
        async with self._running, aiohttp.ClientSession(timeout=_PATIENCE) as session:
            waiting, taken = list(outbox.deliveries), 0
            for delivery in waiting:
                is_taken = await _try(session, delivery)
                taken += is_taken
                now = self._engine.clock.now()
                delivery.notification.last_tried = now
                if is_taken or now >= delivery.notification.expires:
                    outbox.deliveries.remove(delivery)
        return taken


async def _try(session: aiohttp.ClientSession, delivery: Delivery) -> bool:
    notification = delivery.notification
    body = notification.show_v2() if delivery.is_v2 else notification.show()
    for hook in delivery.hooks:
        if not await _post(session, hook, body):
            return False
    return True


async def _post(session: aiohttp.ClientSession, hook: Hook, body: JsonObject) -> bool:
    headers = {"Content-Type": "application/json"}
    if hook.user:
        headers["Authorization"] = aiohttp.encode_basic_auth(hook.user, hook.password)
    try:
        async with session.post(
            hook.url, data=encode(body), headers=headers, ssl=hook.is_verified
        ) as response:
            return response.ok
    except (aiohttp.ClientError, TimeoutError) as error:
        _log.info("webhook %s: %r", hook.url, error)
        return False
