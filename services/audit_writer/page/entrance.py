"""Who comes in: the token of a request, the form where people paste one, and what is said to who may not.

A token comes in a header, from a proxy that signs people in, or in a cookie that the form has set; it stands in no URL
and in no log. There is no session on this side: every request is looked at anew.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import NoReturn

from aiohttp import web

from services.audit_writer.page import doorman
from services.audit_writer.page.access import Access, Guest, TooManyAttemptsError
from services.audit_writer.page.metrics import PageMetrics
from services.audit_writer.page.sheets import Sheets
from shared import logs
from shared.errors import MoorgateError

MAX_FORM = 16 * 1024
"""Bytes of the form: a token of 3,800 characters and where to go on to."""

FORM_TIMEOUT = 5.0
"""Seconds the form may take to arrive."""

HOW = "Paste the token that this command prints: kubectl create token NAME --namespace NAMESPACE"


class TurnedAwayError(Exception):
    """The request is answered, and goes no further."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.status)
        self.response = response


class Entrance:
    """Lets guests in."""

    def __init__(self, access: Access, sheets: Sheets, metrics: PageMetrics) -> None:
        self._access = access
        self._sheets = sheets
        self._metrics = metrics
        self._log = logs.logger("page")

    async def guest(self, request: web.Request, namespace: str = "") -> Guest:
        """Who asks. `namespace`: one they name. Raises `TurnedAwayError` for who may not come in."""
        token = doorman.token_of(request)
        if not token:
            if doorman.is_led_here(request.headers) and doorman.wants_html(request):
                raise TurnedAwayError(self._once_more(request))
            raise TurnedAwayError(self._sign_in(request, 401, "", request.path_qs))
        guest = await self._ask(request, lambda: self._access.guest(token, _address(request), namespace))
        if guest is None:
            why = "The token is not valid, or no longer: sign in with a new one."
            raise TurnedAwayError(self._sign_in(request, 401, why, request.path_qs, forget=True))
        if not guest.sees_something:
            self._turn_away(
                request, 403, f"{guest.name} may list Audits in no namespace that has any.", guest
            )
        return guest

    async def again(self, request: web.Request, guest: Guest) -> Guest | None:
        """Whether who was let in may still be here. Raises `MoorgateError`."""
        try:
            found = await self._access.again(doorman.token_of(request), _address(request), guest)
        except TooManyAttemptsError:
            return None
        return found if found and found.sees_something else None

    def turn_away(
        self, request: web.Request, status: int, why: str, guest: Guest | None = None
    ) -> web.Response:
        """A refusal: a sheet for people, one line for everybody else."""
        line = " ".join(why.split())[:500]
        if not doorman.wants_html(request):
            response = web.Response(status=status, text=line + "\n")
        else:
            response = self._sheet("refusal.html", status, request, why=line, guest=guest)
        if status in (401, 429, 503):
            response.force_close()
        return response

    async def show_form(self, request: web.Request) -> web.Response:
        """The form by itself."""
        return self._sign_in(request, 200, "", doorman.place(request.query.get("next", "/")))

    async def sign_in(self, request: web.Request) -> web.Response:
        """The form, filled in: a good token becomes the cookie."""
        form = await self._form(request)
        after = doorman.place(str(form.get("next", "/")))
        token = doorman.good_token(str(form.get("token", "")).strip(), doorman.MAX_COOKIE)
        if not token:
            self._metrics.sign_ins.labels("refused").inc()
            return self._sign_in(request, 400, f"That is no token. {HOW}", after)
        guest = await self._ask(request, lambda: self._access.guest(token, _address(request)), counted=True)
        self._metrics.sign_ins.labels("accepted" if guest else "refused").inc()
        self._log.info("page_sign_in", user=guest.name if guest else "", accepted=guest is not None)
        if guest is None:
            return self._sign_in(request, 401, "The API server does not accept this token.", after)
        return web.Response(status=303, headers={"Location": after, "Set-Cookie": doorman.cookie(token)})

    async def sign_out(self, request: web.Request) -> web.Response:
        """Forget the cookie."""
        await self._form(request)
        return web.Response(status=303, headers={"Location": "/sign-in", "Set-Cookie": doorman.cookie("")})

    async def _form(self, request: web.Request) -> "dict[str, str]":
        """The fields of a form of the page's own. Raises `TurnedAwayError`."""
        if not doorman.is_from_here(request.headers):
            self._turn_away(
                request, 403, "This form was sent by another site: open the page itself and try again."
            )
        if request.content_type != "application/x-www-form-urlencoded":
            self._turn_away(request, 415, "send the form as application/x-www-form-urlencoded")
        try:
            async with asyncio.timeout(FORM_TIMEOUT):
                fields = await request.post()
        except TimeoutError:
            self._turn_away(request, 408, f"the form did not arrive within {FORM_TIMEOUT:.0f} s")
        except (web.RequestPayloadError, ConnectionError, ValueError):
            self._turn_away(request, 400, "the form cannot be read")
        return {name: str(value) for name, value in fields.items()}

    async def _ask(
        self, request: web.Request, ask: Callable[[], Awaitable[Guest | None]], *, counted: bool = False
    ) -> Guest | None:
        """What the API server says. Raises `TurnedAwayError` where it cannot be asked."""
        try:
            return await ask()
        except TooManyAttemptsError as error:
            if counted:
                self._metrics.sign_ins.labels("limited").inc()
            response = self.turn_away(
                request, 429, "Too many attempts to sign in: wait a moment and try again."
            )
            response.headers["Retry-After"] = str(max(1, round(error.delay)))
            raise TurnedAwayError(response) from error
        except MoorgateError as error:
            if counted:
                self._metrics.sign_ins.labels("failed").inc()
            self._log.warning("page_access_not_known", error=str(error))
            why = "The API server does not say who you are and what you may see; the audit-writer's log says why."
            raise TurnedAwayError(self.turn_away(request, 503, why)) from error

    def _turn_away(self, request: web.Request, status: int, why: str, guest: Guest | None = None) -> NoReturn:
        raise TurnedAwayError(self.turn_away(request, status, why, guest))

    def _sign_in(
        self, request: web.Request, status: int, why: str, after: str, *, forget: bool = False
    ) -> web.Response:
        if not doorman.wants_html(request):
            response = web.Response(status=status, text=(why or "sign in: send a bearer token") + "\n")
        else:
            response = self._sheet("sign_in.html", status, request, why=why, after=doorman.place(after))
        if status == 401:  # noqa: PLR2004  HTTP's own number
            response.headers["WWW-Authenticate"] = 'Bearer realm="moorgate"'
            response.force_close()
        if forget and doorman.COOKIE in request.cookies:
            response.headers["Set-Cookie"] = doorman.cookie("")
        return response

    def _once_more(self, request: web.Request) -> web.Response:
        """A link from elsewhere: the browser sends the cookie when the page itself asks."""
        return self._sheet("once_more.html", 200, request, after=doorman.place(request.path_qs))

    def _sheet(self, template: str, status: int, request: web.Request, **shown: object) -> web.Response:
        is_by_proxy = doorman.is_by_proxy(request)
        html = self._sheets.write(
            template, datetime.now(UTC), **{"guest": None, "is_by_proxy": is_by_proxy, "view": ""} | shown
        )
        return web.Response(status=status, text=html, content_type="text/html")


def _address(request: web.Request) -> str:
    return request.remote or ""
