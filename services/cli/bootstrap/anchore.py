"""Anchore as its administrator and as Moorgate's user reach it: one client for both APIs, which differ little here.

It knows no order of steps. What is not there is None; a refusal is `Refused` with Anchore's own reason; no answer is
`Unavailable`. Traps of the real server dealt with by who calls: duplicates are 400, 409 or 500 by kind (so look first), and
a POST of a bundle under an id that is there deactivates it.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from shared.anchore import AnchoreApi, AnchoreHttp, AnchoreSettings, Reply, open_session
from shared.errors import Refused, Unavailable
from shared.settings import Secret

T = TypeVar("T")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """An account, as its users see it."""

    name: str
    state: str = "enabled"


class Anchore:
    """One Anchore, one user, one API. Made by `open_anchore`."""

    def __init__(self, http: AnchoreHttp, api: AnchoreApi, username: str) -> None:
        self._http = http
        self.api = api
        self.username = username

    async def get(self, path: str, kind: type[T], query: Mapping[str, str] | None = None) -> T | None:
        """What is at the path below the API's version, or None. Raises `Unavailable`, `Refused`."""
        reply = await self._http.request("GET", f"/{self.api}{path}", query=query)
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        self._check(reply, f"GET {path}")
        try:
            return msgspec.json.decode(reply.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unavailable("anchore", f"GET {path}: an answer that is none: {error}") from error

    async def send(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None = None,
        *,
        hide: Secret | None = None,
    ) -> bytes:
        """Change something. `hide`: stands in the body and must not stand in an error. Raises `Unavailable`, `Refused`."""
        reply = await self._http.request(method, f"/{self.api}{path}", query=query, body=body, hide=hide)
        self._check(reply, f"{method} {path}")
        return reply.body

    async def own_account(self) -> Identity | None:
        """The account that this user belongs to; None: Anchore does not know the user or the password."""
        try:
            found = await self.get("/account", Identity)
        except Refused as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                return None
            raise
        if found is None:
            raise Refused(
                HTTPStatus.NOT_FOUND, f"the server has no /{self.api}/account: no such API is there"
            )
        return found

    def _check(self, reply: Reply, what: str) -> None:
        if reply.is_ok:
            return
        if reply.status == HTTPStatus.UNAUTHORIZED:
            raise Refused(reply.status, f"{what}: Anchore does not accept the password of {self.username!r}")
        raise Refused(reply.status, f"{what}: {' '.join(_reason(reply).split())}")


@contextlib.asynccontextmanager
async def open_anchore(settings: AnchoreSettings, api: AnchoreApi) -> AsyncIterator[Anchore]:
    """A client with connections of its own, closed at the end."""
    async with open_session(settings) as session:
        yield Anchore(AnchoreHttp(session, settings), api, settings.username)


def _reason(reply: Reply) -> str:
    """Anchore's sentence, and what its validation found."""
    error = reply.error
    found: Any = error.detail.get("validation_details") if isinstance(error.detail, dict) else None
    details = [each.get("details", "") for each in found or () if isinstance(each, dict)]
    return "; ".join([error.text, *details[:3]])
