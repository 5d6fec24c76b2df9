"""HTTP: a request becomes a Call, its answer or refusal becomes a response, and everything is counted.

The order of checks is the real server's: route, parameters and body against the API description, then credentials, account
and permission, then the operation itself. Faults and latencies stand before all that.
"""

import asyncio
import base64
import binascii
import json
from urllib.parse import quote

from aiohttp import web

from deploy.dev.anchore import schemas
from deploy.dev.anchore.accounts import ADMIN, ENABLED, User
from deploy.dev.anchore.calls import EMPTY, NO_CONTENT, SYSTEM, Call, Operation, Operations
from deploy.dev.anchore.counters import Counters, Seen, named_images
from deploy.dev.anchore.engine import SERVICES, Engine
from deploy.dev.anchore.errors import (
    JSON,
    Refusal,
    bad_request,
    forbidden,
    in_v2,
    problem,
    refused,
    unauthorized,
)
from deploy.dev.anchore.faults import Faults, spoil
from deploy.dev.anchore.latency import Latency
from deploy.dev.anchore.traps import DELAY, Traps, is_new
from deploy.dev.anchore.wire import NAME, Json, encode

_IMAGE_PARTS = 3
"""v1, images and the digest."""


class Server:
    """Answers every path but the door's."""

    def __init__(self, engine: Engine, operations: Operations) -> None:
        self.engine = engine
        self.faults = Faults()
        self.counters = Counters()
        self.latency = Latency()
        self.latency.set_curve("check", engine.settings.check_curve or None)
        self._operations = operations
        self._traps = Traps(are_set=engine.settings.concurrency_traps)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The one handler."""
        self.counters.concurrent += 1
        self.counters.most_concurrent = max(self.counters.most_concurrent, self.counters.concurrent)
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return _refuse(refusal)
        finally:
            self.counters.concurrent -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        operation, path = self._operations.find(request.method, request.path)
        text = await request.read()
        images = named_images(path, request.query, text)
        status = 0
        try:
            response = await self._perform(operation, request, path, text, images)
            status = 0 if _is_dropped(request) else response.status
        except Refusal as refusal:
            status = refusal.status
            if operation.is_v2:
                raise in_v2(refusal) from refusal
            raise
        finally:
            user = _name_and_password(request)
            account = request.headers.get("x-anchore-account") or (user[0] if user else None)
            at = self.engine.clock.now()
            self.counters.note(
                Seen(at=at, operation=operation.name, images=images, account=account, status=status)
            )
        return response

    async def _perform(
        self,
        operation: Operation,
        request: web.Request,
        path: dict[str, str],
        text: bytes,
        images: tuple[str, ...],
    ) -> web.StreamResponse:
        await self.latency.wait(operation.name)
        fault = self.faults.take(operation.name, images)
        if fault is not None and not fault.needs_answer:
            return await spoil(fault, request)
        call = self._call(operation, request, path, text)
        if self._traps.concerns(operation.name):
            response = await self._perform_beside_others(operation, call, images)
        else:
            response = _respond(self._run(operation, call))
        return response if fault is None else await spoil(fault, request, response)

    async def _perform_beside_others(
        self, operation: Operation, call: Call, images: tuple[str, ...]
    ) -> web.StreamResponse:
        key = (operation.name, call.space.account, *images)
        may_collide = operation.name == "check" or is_new(call.space, images)
        with self._traps.passing(key):
            await asyncio.sleep(DELAY)
            if may_collide:
                self._traps.spring(operation.name, key, call.query)
            return _respond(self._run(operation, call))

    def _run(self, operation: Operation, call: Call) -> Json:
        self.engine.catch_up()
        body = operation.handler(call)
        self.engine.catch_up()
        return body

    def _call(self, operation: Operation, request: web.Request, path: dict[str, str], text: bytes) -> Call:
        query = dict(request.query)
        operation.check_query(query)
        body = None if operation.body is None else _body(operation, request, text)
        user = self._anybody() if operation.is_public else self._user(request)
        account = request.headers.get("x-anchore-account", user.account)
        if not operation.is_public:
            self._authorize(user, account, operation)
        if "catalog" in self.engine.down and operation.action is not None and operation.domain is None:
            raise refused(500, f"failed {request.method.lower()} url={_in_catalog(request.path)}")
        space = self.engine.directory.space(account)
        return Call(engine=self.engine, user=user, space=space, path=path, query=query, body=body)

    def _anybody(self) -> User:
        return self.engine.directory.users[ADMIN]

    def _user(self, request: web.Request) -> User:
        given = _name_and_password(request)
        user = self.engine.directory.users.get(given[0]) if given else None
        if given is None or user is None or user.password != given[1]:
            raise unauthorized()
        kept = self.engine.settings.credential_cache_seconds
        if user.deleted is not None and user.deleted + kept < self.engine.clock.now():
            raise unauthorized()
        return user

    def _authorize(self, user: User, account: str, operation: Operation) -> None:
        own = self.engine.directory.accounts[user.account]
        if own.state != ENABLED:
            raise refused(403, f"Not authorized. Account {own.name} not enabled.")
        if own.is_admin or operation.action is None:
            return
        domain = SYSTEM if operation.domain == SYSTEM else account
        if domain != own.name:
            raise forbidden(domain, operation.action)


def _in_catalog(path: str) -> str:
    """The address at which the API would have asked the catalog: an image's, whatever of it was wanted."""
    parts = path.strip("/").split("/")[: _IMAGE_PARTS if "/images" in path else None]
    return f"http://127.0.0.1:{SERVICES['catalog']}/{quote('/'.join(parts))}"


def _body(operation: Operation, request: web.Request, text: bytes) -> Json:
    is_json = request.content_type == JSON or request.content_type.endswith("+json")
    if text and not is_json:
        given = request.headers.get("Content-Type", "")
        raise problem(415, f"Invalid Content-type ({given}), expected JSON data", None)
    body = None
    if text:
        try:
            body = json.loads(text)
        except ValueError:
            body = None
        if body is None:
            raise bad_request("Request body is not valid JSON")
    schemas.check_body(body, operation.body or {})
    return body


def _name_and_password(request: web.Request) -> tuple[str, str] | None:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None


def _respond(body: Json) -> web.Response:
    if body is NO_CONTENT:
        return web.Response(status=204)
    if body is EMPTY:
        return web.Response()
    return web.Response(body=encode(body), content_type=JSON)


def _refuse(refusal: Refusal) -> web.Response:
    headers = {**refusal.headers, "Content-Type": refusal.content_type}
    return web.Response(status=refusal.status, body=refusal.body, headers=headers)


def _is_dropped(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def sign(_request: web.Request, response: web.StreamResponse) -> None:
    """Every answer says who gave it."""
    response.headers["Server"] = NAME
