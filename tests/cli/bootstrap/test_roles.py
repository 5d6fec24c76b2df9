"""Roles, which the simulator does not have: a server that answers as the API description says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from services.cli.bootstrap.anchore import open_anchore
from services.cli.bootstrap.plan import Plan
from services.cli.bootstrap.roles import ROLE, give_role
from shared.anchore import AnchoreApi, AnchoreSettings
from shared.settings import Secret


@asynccontextmanager
async def server(members: list[dict[str, Any]]) -> AsyncIterator[str]:
    async def roles(request: web.Request) -> web.Response:
        domain = request.query["domain_name"]
        return web.json_response([each for each in members if each["domain_name"] == domain])

    async def add(request: web.Request) -> web.Response:
        body = await request.json()
        members.append({"role": request.match_info["role"], **body})
        return web.json_response(body)

    app = web.Application()
    app.router.add_get("/v2/rbac-manager/users/{user}/roles", roles)
    app.router.add_post("/v2/rbac-manager/roles/{role}/members", add)
    async with TestServer(app) as running:
        yield str(running.make_url(""))


async def given(url: str, api: AnchoreApi = AnchoreApi.V2, *, is_dry: bool = False) -> list[str]:
    said: list[str] = []
    settings = AnchoreSettings(url=url, username="admin", password=Secret("foobar"))
    async with open_anchore(settings, api) as admin:
        await give_role(Plan(said.append, is_dry=is_dry), admin, "account", "somebody")
    return said


async def test_the_role_is_given_once_and_in_the_own_account_alone() -> None:
    elsewhere = {"role": ROLE, "username": "somebody", "domain_name": "other"}
    members = [elsewhere]
    async with server(members) as url:
        [dry] = await given(url, is_dry=True)
        assert dry.startswith("would create")
        assert members == [elsewhere]
        [first], [second] = await given(url), await given(url)
    assert members == [elsewhere, {"role": ROLE, "username": "somebody", "domain_name": "account"}]
    assert (first.split()[0], second.split()[0]) == ("created", "unchanged")


async def test_the_engine_is_not_asked() -> None:
    async with server([]) as url:
        assert await given(url, AnchoreApi.V1) == []
