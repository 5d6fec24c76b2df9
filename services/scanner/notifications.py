"""Anchore's own notifications: a TLS port that takes them, and hands on what they are about.

    POST /notifications/<secret>[/…]    the Engine, which can put an account and a type behind its URL
    POST /notifications[/…]             the same with HTTP basic authentication whose password is the secret

Answers come before anything is looked up: Anchore waits two seconds, tries a notification that is not taken again
for half a minute, then drops it. Notifications are neither signed nor ordered, so the secret keeps strangers from
causing work, and nothing more depends on it. Nothing of a request is logged: its path may hold the secret.
"""

import asyncio
import base64
import binascii
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from services.scanner import notices
from services.scanner.hints import Hints
from services.scanner.metrics import NotificationMetrics
from services.scanner.notices import OTHER, BadNotice
from shared import logs
from shared.certificates import CertificateFiles
from shared.lifecycle import background
from shared.settings import Listen, Secret
from shared.tls_port import TlsPort, serve_tls

SETTINGS = "MOORGATE_NOTIFICATIONS"
"""What the names of all settings of the port begin with."""

MAX_BODY = 8 * 1024 * 1024
"""Bytes: a `policy_eval` holds two whole evaluations, each with its bundle."""

MAX_BODIES = 4
"""Bodies read at once; the sender of one more is told to come back. Each may take `MAX_BODY`."""

BODY_TIMEOUT = 10.0
"""Seconds a body may take to arrive: Anchore's are there with the headers."""

IDLE_TIMEOUT = 15.0
"""Seconds a connection may wait for a request's headers."""

LEAVE_TIMEOUT = 2.0
"""Seconds for what is being read at the stop, and for the rest of a body that was refused."""


class NotificationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where notifications are taken."""

    listen: Listen
    files: CertificateFiles
    secret: Secret


@asynccontextmanager
async def serve_notifications(
    settings: NotificationSettings, hints: Hints, metrics: NotificationMetrics
) -> AsyncIterator[Listen]:
    """Take notifications while the context is open; gives the address really bound. Raises `BadSetting`, `OSError`."""
    port = TlsPort(
        settings=SETTINGS,
        listen=settings.listen,
        files=settings.files,
        idle_timeout=IDLE_TIMEOUT,
        leave_timeout=LEAVE_TIMEOUT,
    )
    application = Receiver(settings.secret, hints, metrics).application()
    async with serve_tls(port, application, metrics) as address:
        logs.logger("notifications").info("notifications_listen", host=address.host, port=address.port)
        async with background(hints.run()):
            yield address


class Receiver:
    """The handler of the one route there is."""

    def __init__(self, secret: Secret, hints: Hints, metrics: NotificationMetrics) -> None:
        self._secret = secret
        self._hints = hints
        self._metrics = metrics
        self._bodies = 0
        self._log = logs.logger("notifications")

    def application(self) -> web.Application:
        """An aiohttp application; other methods get 405, other paths 404."""
        app = web.Application(client_max_size=MAX_BODY)
        for path in ("/notifications", "/notifications/{rest:.*}"):
            app.router.add_post(path, self.take)
        return app

    async def take(self, request: web.Request) -> web.Response:
        """One notification: 200 once it is taken, however much there is to look up."""
        if not self._is_allowed(request):
            challenge = {"WWW-Authenticate": 'Basic realm="moorgate"'}
            return self._refuse(401, "the secret is missing or wrong", "refused", headers=challenge)
        if "Content-Encoding" in request.headers:
            return self._refuse(415, "send the body as it is, without Content-Encoding", "malformed")
        if self._bodies >= MAX_BODIES:
            return self._refuse(503, "too many notifications at once", "busy")
        self._bodies += 1
        try:
            return await self._read(request)
        finally:
            self._bodies -= 1

    async def _read(self, request: web.Request) -> web.Response:
        try:
            notice = notices.decode(await asyncio.wait_for(request.read(), BODY_TIMEOUT))
        except web.HTTPRequestEntityTooLarge:
            return self._refuse(413, f"a notification has at most {MAX_BODY} bytes", "malformed")
        except TimeoutError:
            return self._refuse(408, f"the body did not arrive within {BODY_TIMEOUT:.0f} s", "malformed")
        except (web.RequestPayloadError, ConnectionError) as error:
            return self._refuse(400, f"the body cannot be read: {type(error).__name__}", "malformed")
        except BadNotice as error:
            return self._refuse(400, str(error), "malformed")
        if not self._hints.offer(notice):
            return self._refuse(503, "cannot look into it now", "busy", notice.kind)
        return web.Response(text="taken\n")

    def _is_allowed(self, request: web.Request) -> bool:
        """Both ways are tried, whatever the first says: how long it takes tells nothing."""
        in_path = request.match_info.get("rest", "").partition("/")[0]
        by_path, by_password = (self._is_secret(given) for given in (in_path, _password(request)))
        return by_path or by_password

    def _is_secret(self, given: str) -> bool:
        wanted = self._secret.reveal().encode()
        return hmac.compare_digest(given.encode(errors="surrogateescape"), wanted)

    def _refuse(
        self,
        status: int,
        reason: str,
        result: str,
        kind: str = OTHER,
        *,
        headers: dict[str, str] | None = None,
    ) -> web.Response:
        """One line for whoever sent it; the connection ends, with whatever is still to come of the body."""
        line = " ".join(reason.split())[:300]
        self._metrics.notifications.labels(kind, result).inc()
        self._log.warning("notification_refused", status=status, reason=line)
        response = web.Response(status=status, text=line + "\n", headers=headers)
        response.force_close()
        return response


def _password(request: web.Request) -> str:
    """Of HTTP basic authentication, whoever the user is; empty where there is none."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
