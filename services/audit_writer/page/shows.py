"""The views: each reads its URL, asks who looks, and is written in a thread of its own.

A thread, because a hundred thousand records take some tenths of a second to search, and the audit-writer's event loop has
better to do; one, because more would only share its time. It is given copies, so nothing changes under its hands.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Protocol

from aiohttp import web

from services.audit_writer.cluster import StoredAudit
from services.audit_writer.page import bars, doorman, guidance, trend, views
from services.audit_writer.page.access import Guest
from services.audit_writer.page.entrance import Entrance
from services.audit_writer.page.live import Streams
from services.audit_writer.page.records import PROBLEMS, Shelf
from services.audit_writer.page.sheets import Sheets
from services.audit_writer.page.trend import Course, Trend
from services.audit_writer.page.views import Query
from shared import logs
from shared.errors import MoorgateError

MAX_WAITING = 32
"""Views that wait for the thread; who comes then is told to come back."""

MAX_READS = 4
"""Audits read from the API server at once, for who looks at one of them."""

MAX_NAMESPACES_OFFERED = 500
"""Namespaces that the filter proposes."""

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_DECISIONS = (Course.ALLOWED, Course.DEFERRED, Course.REJECTED)
_FLIPS = (Course.PASSED, Course.FAILED)


class Reading(Protocol):
    """Whoever reads one whole Audit."""

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        """The Audit, or None where there is none."""


class Shows:
    """The handlers of all that is shown."""

    def __init__(
        self,
        entrance: Entrance,
        sheets: Sheets,
        shelf: Shelf,
        course: Trend,
        audits: Reading,
        *,
        is_complete: Callable[[], tuple[bool, bool]],
    ) -> None:
        """`is_complete`: whether the Audits, and whether the events, have been read to their end."""
        self.streams = Streams(shelf)
        self._entrance = entrance
        self._sheets = sheets
        self._shelf = shelf
        self._trend = course
        self._audits = audits
        self._is_complete = is_complete
        self._thread = ThreadPoolExecutor(1, "page")
        self._waiting = 0
        self._reads = asyncio.Semaphore(MAX_READS)
        self._log = logs.logger("page")

    def close(self) -> None:
        """End the streams, and take nothing more."""
        self.streams.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def overview(self, request: web.Request) -> web.Response:
        """What is wrong, and where."""
        query = Query.read(request.query)
        guest = await self._entrance.guest(request, query.namespace)
        now = datetime.now(UTC)
        counts, problems = self._shelf.counts(), self._shelf.records(PROBLEMS)

        def shown() -> dict[str, Any]:
            hours = self._trend.hours(guest.visible, now)
            return {
                "seen": views.overview(counts, problems, guest.visible),
                "decisions": bars.stacked(hours, _DECISIONS, bars.SMALL_WIDTH, bars.SMALL_HEIGHT),
                "totals": trend.total(hours),
                "last_day": trend.total(hours[-24:]),
            }

        return await self._show(request, guest, Query(), shown, now=now)

    async def audits(self, request: web.Request) -> web.Response:
        """All Audits, by filters."""
        query = Query.read(request.query)
        guest = await self._entrance.guest(request, query.namespace)
        records = self._shelf.records(query.states)
        return await self._show(
            request, guest, query, lambda: {"seen": views.listing(records, query, guest.visible)}
        )

    async def releases(self, request: web.Request) -> web.Response:
        """The same by release."""
        query = Query.read(request.query)
        guest = await self._entrance.guest(request, query.namespace)
        records = self._shelf.records(query.states)
        return await self._show(
            request, guest, query, lambda: {"seen": views.releases(records, query, guest.visible)}
        )

    async def trend(self, request: web.Request) -> web.Response:
        """The week, hour by hour."""
        query = Query.read({"namespace": request.query.get("namespace", "")})
        guest = await self._entrance.guest(request, query.namespace)
        now = datetime.now(UTC)

        def shown() -> dict[str, Any]:
            hours = self._trend.hours(guest.visible, now, query.namespace)
            return {
                "decisions": bars.stacked(hours, _DECISIONS),
                "flips": bars.stacked(hours, _FLIPS, height=bars.SMALL_HEIGHT),
                "totals": trend.total(hours),
                "days": trend.by_day(hours)[::-1],
                "hours": [each for each in reversed(hours) if any(each.counts)],
            }

        return await self._show(request, guest, query, shown, now=now)

    async def audit(self, request: web.Request) -> web.Response:
        """One Audit, whole."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
            return self._entrance.turn_away(request, 404, "There is no such page.")
        guest = await self._entrance.guest(request, namespace)
        if not guest.may_see(namespace):
            why = f"{guest.name} may not list Audits in namespace {namespace}."
            return self._entrance.turn_away(request, 403, why, guest)
        try:
            async with self._reads:
                stored = await self._audits.audit(namespace, name)
        except MoorgateError as error:
            self._log.warning("page_audit_not_read", namespace=namespace, audit=name, error=str(error))
            why = "The API server does not give this Audit now; the audit-writer's log says why."
            return self._entrance.turn_away(request, 503, why, guest)
        if stored is None or stored.audit is None:
            why = f"There is no Audit {name} in namespace {namespace} (any more)."
            return self._entrance.turn_away(request, 404, why, guest)
        found = stored.audit
        return await self._show(
            request,
            guest,
            Query(namespace=namespace),
            lambda: {
                "audit": found,
                "steps": guidance.steps(found),
                "transitions": sorted(found.status.transitions, key=lambda each: each.at, reverse=True),
            },
        )

    async def live(self, request: web.Request) -> web.StreamResponse:
        """The stream of a view: of all that the guest sees, of one namespace, or of one Audit in it."""
        namespace = request.query.get("namespace", "")[: views.MAX_TEXT]
        audit = request.query.get("audit", "")
        guest = await self._entrance.guest(request, namespace)
        if namespace and not guest.may_see(namespace):
            why = f"{guest.name} may not list Audits in namespace {namespace}."
            return self._entrance.turn_away(request, 403, why, guest)
        if not self.streams.has_room(guest.name):
            return self._entrance.turn_away(request, 503, "Too many live views are open: close some.", guest)

        def wants(seen: Guest, where: str, name: str) -> bool:
            return seen.may_see(where) and namespace in ("", where) and audit in ("", name)

        return await self.streams.serve(
            request, guest, lambda seen: self._entrance.again(request, seen), wants
        )

    async def _show(
        self,
        request: web.Request,
        guest: Guest,
        query: Query,
        shown: Callable[[], dict[str, Any]],
        *,
        now: datetime | None = None,
    ) -> web.Response:
        view = request.match_info.route.name or "overview"
        if self._waiting >= MAX_WAITING:
            return self._entrance.turn_away(request, 503, "Too many people look at once: try again.", guest)
        has_audits, has_events = self._is_complete()
        offered = [each for each in self._shelf.namespaces() if guest.may_see(each)]
        common = {
            "view": view,
            "path": request.path,
            "query": query,
            "guest": guest,
            "is_by_proxy": doorman.is_by_proxy(request),
            "has_audits": has_audits,
            "has_events": has_events,
            "left_out": self._shelf.left_out if guest.visible is None else 0,
            "namespaces": offered[:MAX_NAMESPACES_OFFERED],
        }
        self._waiting += 1
        try:
            html = await asyncio.get_running_loop().run_in_executor(
                self._thread,
                lambda: self._sheets.write(f"{view}.html", now or datetime.now(UTC), **common | shown()),
            )
        finally:
            self._waiting -= 1
        return web.Response(text=html, content_type="text/html")
