"""`/simulator/…`: the door for tests that run the simulator as a program of its own. No part of Anchore's API, and open to all.

GET /simulator answers the counters, POST /simulator/<command> takes one JSON object. Each command is a method of the
world (`notify` and `deliver` answer how many deliveries were taken); a body that doesn't fit is 400 with the field at fault.
"""

import inspect
from collections.abc import Callable

import msgspec
from aiohttp import web

from deploy.dev.anchore.catalogue import Content, Image, Vulnerability
from deploy.dev.anchore.faults import Fault
from deploy.dev.anchore.wire import Json, encode
from deploy.dev.anchore.world import World


class Named(msgspec.Struct, forbid_unknown_fields=True):
    """preload, and what a registry tag names."""

    reference: str
    account: str = "admin"


class Pushed(msgspec.Struct, forbid_unknown_fields=True):
    """push and image."""

    reference: str
    content: Content | None = None
    multi_arch: bool = False


class Found(msgspec.Struct, forbid_unknown_fields=True):
    """vulnerabilities."""

    reference: str
    vulnerabilities: tuple[Vulnerability, ...] = ()


class Timed(msgspec.Struct, forbid_unknown_fields=True):
    """analysis."""

    reference: str | None = None
    seconds: float | None = None
    fails: bool | None = None


class Slowed(msgspec.Struct, forbid_unknown_fields=True):
    """latency: a fixed time, or a curve by its name; neither takes the operation's curve away."""

    seconds: float | None = None
    operation: str = "*"
    curve: str | None = None


class Advanced(msgspec.Struct, forbid_unknown_fields=True):
    """clock."""

    seconds: float


class Stopped(msgspec.Struct, forbid_unknown_fields=True):
    """services: those that are down."""

    names: tuple[str, ...] = ()


class Told(msgspec.Struct, forbid_unknown_fields=True):
    """notify: a notification that is posted now, with a payload made up where none is given."""

    kind: str
    reference: str
    account: str = "admin"
    payload: dict[str, Json] | None = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """Commands without arguments."""


Command = tuple[type[msgspec.Struct], Callable[..., Json]]


def _commands(world: World) -> dict[str, Command]:
    return {
        "preload": (Named, lambda body: _show(world.preload(body.reference, body.account))),
        "push": (Pushed, lambda body: _show(world.push(body.reference, body.content))),
        "image": (
            Pushed,
            lambda body: _show(
                world.add_image(body.reference, body.content or Content(), multi_arch=body.multi_arch)
            ),
        ),
        "vulnerabilities": (
            Found,
            lambda body: world.set_vulnerabilities(body.reference, body.vulnerabilities),
        ),
        "analysis": (Timed, lambda body: _time(world, body)),
        "latency": (Slowed, lambda body: _slow(world, body)),
        "faults": (Fault, world.add_fault),
        "clear-faults": (Nothing, lambda _body: world.faults.pending.clear()),
        "reset-counters": (Nothing, lambda _body: world.counters.reset()),
        "clock": (Advanced, lambda body: world.engine.clock.advance(body.seconds)),
        "services": (Stopped, lambda body: world.stop_services(*body.names)),
        "look-again": (Nothing, lambda _body: world.look_again()),
        "notify": (Told, lambda body: world.notify(body.kind, body.reference, body.account, body.payload)),
        "deliver": (Nothing, lambda _body: world.deliver()),
    }


def install(app: web.Application, world: World) -> None:
    """Before the API's own catch-all route."""
    commands = _commands(world)

    async def show(_request: web.Request) -> web.Response:
        return _respond(200, world.counters.show())

    async def command(request: web.Request) -> web.Response:
        found = commands.get(request.match_info["command"])
        if found is None:
            return _respond(404, {"error": f"no such command; there are {sorted(commands)}"})
        shape, perform = found
        try:
            body = msgspec.json.decode(await request.read() or b"{}", type=shape)
            answer = perform(body)
            return _respond(200, await answer if inspect.isawaitable(answer) else answer)
        except (msgspec.DecodeError, LookupError, ValueError) as error:
            return _respond(400, {"error": str(error)})

    app.router.add_get("/simulator", show)
    app.router.add_post("/simulator/{command}", command)


def _slow(world: World, body: Slowed) -> None:
    world.set_curve(body.operation, body.curve)
    if body.seconds is not None:
        world.set_latency(body.seconds, body.operation)


def _time(world: World, body: Timed) -> None:
    if body.seconds is not None:
        world.set_analysis_seconds(body.seconds, body.reference)
    if body.fails is not None and body.reference is not None:
        world.fail_analysis(body.reference, fails=body.fails)


def _show(image: Image) -> Json:
    return {"digest": image.digest, "list_digest": image.list_digest, "image_id": image.image_id}


def _respond(status: int, body: Json) -> web.Response:
    return web.Response(status=status, body=encode(body), content_type="application/json")
