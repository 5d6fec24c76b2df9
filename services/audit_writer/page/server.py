"""The page's port: its routes, and what holds for all of them. `open_page` builds all that the page is made of.

Nothing of it is started, nor imported, where `MOORGATE_PAGE_LISTEN` is not set. It reads Audits by one list and watch, and
the events by one consumer of its own; neither has a part in the audit-writer's work.
"""

from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from services.audit_writer.cluster import AuditCluster
from services.audit_writer.page import doorman
from services.audit_writer.page.access import Access
from services.audit_writer.page.entrance import MAX_FORM, Entrance, TurnedAwayError
from services.audit_writer.page.metrics import VIEWS, PageMetrics
from services.audit_writer.page.records import SeenAudit, Shelf
from services.audit_writer.page.reviews import Reviews
from services.audit_writer.page.settings import SETTINGS, PageSettings
from services.audit_writer.page.sheets import Sheets
from services.audit_writer.page.shows import Shows
from services.audit_writer.page.trend import Trend
from shared import logs
from shared.broker import Broker
from shared.cluster import Cluster
from shared.crds import audits_path
from shared.event_feed import EventFeed
from shared.metrics import CommonMetrics
from shared.tls_port import TlsPort, serve_tls
from shared.watches import PagedWatch

IDLE_TIMEOUT = 15.0
"""Seconds a connection may wait for a request's headers."""

LEAVE_TIMEOUT = 3.0
"""Seconds for what is under way at the stop."""

FOR_EVER = "public, max-age=31536000, immutable"
"""Static files have their content's hash in their name."""


async def open_page(
    stack: AsyncExitStack,
    settings: PageSettings,
    *,
    api_server: Cluster,
    audits: AuditCluster,
    broker: Broker,
    common: CommonMetrics,
) -> list[Coroutine[Any, Any, None]]:
    """Serve the page until `stack` closes; gives what has to run beside it. Raises `BadSetting`, `OSError`."""
    metrics, shelf, trend, sheets = PageMetrics(common), Shelf(), Trend(), Sheets()
    watch = PagedWatch(api_server, audits_path(), SeenAudit, shelf)
    feed = EventFeed(broker, lambda _, payload: trend.take(payload, datetime.now(UTC)), trend.clear)
    entrance = Entrance(Access(Reviews(api_server), shelf.namespaces), sheets, metrics)
    shows = Shows(
        entrance,
        sheets,
        shelf,
        trend,
        audits,
        is_complete=lambda: (watch.ready.is_set(), feed.complete.is_set()),
    )
    stack.callback(shows.close)
    metrics.streams.set_function(lambda: len(shows.streams))
    metrics.audits.labels("yes").set_function(lambda: len(shelf))
    metrics.audits.labels("no").set_function(lambda: shelf.left_out)
    port = TlsPort(
        settings=SETTINGS,
        listen=settings.listen,
        files=settings.files,
        idle_timeout=IDLE_TIMEOUT,
        leave_timeout=LEAVE_TIMEOUT,
        ends_with_caller=True,
    )
    address = await stack.enter_async_context(
        serve_tls(port, application(entrance, shows, sheets, metrics), metrics)
    )
    logs.logger("page").info("page_listens", host=address.host, port=address.port)
    return [watch.run(), feed.run()]


def application(entrance: Entrance, shows: Shows, sheets: Sheets, metrics: PageMetrics) -> web.Application:
    """An aiohttp application; other methods get 405, other paths 404."""
    app = web.Application(middlewares=[_answering(entrance, metrics)], client_max_size=MAX_FORM)
    for path, name, handler in (
        ("/", "overview", shows.overview),
        ("/audits", "audits", shows.audits),
        ("/audits/{namespace}/{name}", "audit", shows.audit),
        ("/releases", "releases", shows.releases),
        ("/trend", "trend", shows.trend),
        ("/sign-in", "sign_in", entrance.show_form),
        ("/static/{name}", "static", partial(_static, entrance, sheets)),
    ):
        app.router.add_get(path, handler, name=name)
    app.router.add_get("/live", shows.live, name="live", allow_head=False)
    app.router.add_post("/sign-in", entrance.sign_in, name="sign_in_form")
    app.router.add_post("/sign-out", entrance.sign_out, name="sign_out")
    app.on_response_prepare.append(doorman.dress)
    app.on_shutdown.append(partial(_end_streams, shows))
    return app


async def _end_streams(shows: Shows, _: web.Application) -> None:
    """Else a stop would wait for browsers that never go."""
    shows.streams.close()


def _answering(entrance: Entrance, metrics: PageMetrics) -> Middleware:
    """One answer in the page's own words whatever happens, counted."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except TurnedAwayError as turned:
            response = turned.response
        except web.HTTPException as error:
            response = entrance.turn_away(request, error.status, _said(error))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        view = request.match_info.route.name or "other"
        metrics.requests.labels(view if view in VIEWS else "other", f"{response.status // 100}xx").inc()
        return response

    return answer


def _said(error: web.HTTPException) -> str:
    match error.status:
        case 404:
            return "There is no such page."
        case 413:
            return f"a form has at most {MAX_FORM} bytes"
        case _:
            return error.reason


async def _static(entrance: Entrance, sheets: Sheets, request: web.Request) -> web.Response:
    file = sheets.files.get(request.match_info["name"])
    if file is None:
        return entrance.turn_away(request, 404, "There is no such page.")
    headers = {"Cache-Control": FOR_EVER}
    return web.Response(body=file.content, content_type=file.content_type, charset="utf-8", headers=headers)
