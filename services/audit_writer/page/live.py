"""Live updates: server-sent events that say "something changed", never what. The browser then asks for its view again.

So a stream holds no more than a flag, however slow its reader and however much changes, and everything that is shown
goes through the one check of who may see it. The check is repeated while a stream is open: a right that is taken away
ends it.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable

from aiohttp import web

from services.audit_writer.page.access import Guest
from services.audit_writer.page.records import Shelf
from shared.errors import MoorgateError

MAX_STREAMS, MAX_OF_ONE = 200, 20
"""Streams of this process, and of one person: as many tabs."""

LEAST_PAUSE = 2.0
"""Seconds between two changes told: each costs a request."""

LOOK_EVERY = 5.0
"""Seconds between two looks whether the guest may still see this."""

SIGN_OF_LIFE = 15.0
"""Seconds after which a silent stream says something, so that nobody between cuts it."""

REFRESH_EVERY = 60.0
"""Seconds after which the view is worth asking for again although no Audit changed: ages and the trend move on."""

WRITE_TIMEOUT = 10.0
"""Seconds a browser may take to read a few bytes."""

Check = Callable[[Guest], Awaitable[Guest | None]]
Wants = Callable[[Guest, str, str], bool]
"""Whether a change in this namespace, of the Audit of this name, concerns the stream."""


class Streams:
    """All open streams of this process."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._of: Counter[str] = Counter()
        self._closing = asyncio.Event()

    def __len__(self) -> int:
        return self._of.total()

    def has_room(self, name: str) -> bool:
        """Whether this person may open one more."""
        return len(self) < MAX_STREAMS and self._of[name] < MAX_OF_ONE

    def close(self) -> None:
        """End all of them soon: the service stops."""
        self._closing.set()

    async def serve(
        self, request: web.Request, guest: Guest, check: Check, wants: Wants
    ) -> web.StreamResponse:
        """Tell of changes until the browser goes, the guest may not see them any more, or the service stops."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._of[guest.name] += 1
        try:
            await response.prepare(request)
            await self._tell(response, guest, check, wants)
        except (ConnectionError, TimeoutError, MoorgateError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._of -= Counter([guest.name])
        return response

    async def _tell(self, response: web.StreamResponse, guest: Guest, check: Check, wants: Wants) -> None:
        """Raises `ConnectionError`, `TimeoutError` (nobody reads), `MoorgateError` (nobody can say who may)."""
        changed, seen = asyncio.Event(), guest
        loop = asyncio.get_running_loop()

        def note(namespace: str, name: str) -> None:
            if not namespace or wants(seen, namespace, name):
                changed.set()

        end = self._shelf.listen(note)
        try:
            await _send(response, "retry: 3000\n\n")
            said = told = loop.time()
            while not self._closing.is_set():
                await self._wait(changed)
                found = await check(seen)
                if found is None:
                    await _send(response, "event: over\ndata: \n\n")
                    return
                seen, now = found, loop.time()
                if changed.is_set() or now - told >= REFRESH_EVERY:
                    changed.clear()
                    await _send(response, "event: change\ndata: \n\n")
                    said = told = now
                    await self._pause()
                elif now - said >= SIGN_OF_LIFE:
                    await _send(response, ":\n\n")
                    said = now
        finally:
            end()

    async def _wait(self, changed: asyncio.Event) -> None:
        """Until something changed, the service stops, or it is time to look."""
        waits = [asyncio.ensure_future(each.wait()) for each in (changed, self._closing)]
        try:
            await asyncio.wait(waits, timeout=LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), LEAST_PAUSE)


async def _send(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT):
        await response.write(text.encode())
