"""The Anchore simulator inside a test: a real HTTP server on a free port of 127.0.0.1, gone when the block ends.

    async with anchore(analysis_seconds=5) as simulator:
        simulator.preload("registry.example/bulk/a:1")
        ... simulator.url, simulator.credentials ...

Tests that wait for an analysis wind the simulator's clock on instead of sleeping: `simulator.engine.clock.advance(5)`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from deploy.dev.anchore.settings import Settings
from deploy.dev.anchore.simulator import Simulator

__all__ = ["ADMIN", "Settings", "Simulator", "anchore", "bundle", "client", "posted", "rule", "selection"]

ADMIN = ("admin", "foobar")
"""User and password of the account that may do everything."""


@asynccontextmanager
async def anchore(**settings: Any) -> AsyncIterator[Simulator]:
    """A simulator with these settings; without any, images are analysed as soon as somebody looks again."""
    async with Simulator(Settings(**settings)) as simulator:
        yield simulator


@asynccontextmanager
async def client(
    simulator: Simulator, user: tuple[str, str] | None = ADMIN, account: str | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose paths are relative to the simulator; user None: without credentials."""
    headers = {} if user is None else {"Authorization": aiohttp.encode_basic_auth(*user)}
    if account is not None:
        headers["x-anchore-account"] = account
    async with aiohttp.ClientSession(simulator.url, headers=headers) as session:
        yield session


async def posted(api: aiohttp.ClientSession, name: str, **query: str) -> dict[str, Any]:
    """The record of an added image."""
    async with api.post("/v1/images", json={"tag": name}, params=query) as response:
        body = await response.json()
        assert response.status == 200, body
    [record] = body
    assert isinstance(record, dict)
    return record


def rule(gate: str, trigger: str, action: str = "STOP", **params: str) -> dict[str, Any]:
    """A rule of a policy."""
    shown = [{"name": name, "value": value} for name, value in params.items()]
    return {"id": f"r-{trigger}", "gate": gate, "trigger": trigger, "action": action, "params": shown}


def selection(
    registry: str = "*", repository: str = "*", value: str = "*", kind: str = "tag"
) -> dict[str, Any]:
    """A rule that selects images: for mappings and for the lists of images."""
    return {
        "name": "x",
        "registry": registry,
        "repository": repository,
        "image": {"type": kind, "value": value},
    }


def bundle(
    *rules: dict[str, Any], name: str = "b", items: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    """A sound bundle with one policy for all images."""
    mapping = {**selection(), "id": "m", "policy_ids": ["p"], "whitelist_ids": ["w"]}
    return {
        "id": name,
        "name": name,
        "version": "1_0",
        "policies": [{"id": "p", "version": "1_0", "rules": list(rules)}],
        "whitelists": [{"id": "w", "name": "pardons", "version": "1_0", "items": items or []}],
        "mappings": [mapping],
        "whitelisted_images": [],
        "blacklisted_images": [],
        **more,
    }
