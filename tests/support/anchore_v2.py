"""A client of the simulator's API v2 that holds whatever is asked and answered to the API description, and v2's policies.

So a test can't rely on what the real server would not understand. Without the description beside the repository, tests that use
this client are skipped and say so.
"""

from typing import Any

import aiohttp
import pytest

from tests.support.anchore import selection
from tests.support.openapi import DESCRIPTION, Description, described


class Api:
    """A client that holds whatever is asked and answered to the description."""

    def __init__(self, session: aiohttp.ClientSession, judge: Description) -> None:
        self._session = session
        self._judge = judge

    async def ask(
        self, method: str, path: str, body: Any = None, *, is_sound: bool = True, **query: str
    ) -> tuple[int, Any]:
        """Status and body; `is_sound=False` for a request that the description doesn't allow."""
        if is_sound:
            assert self._judge.faults_in_request(method, path, query, body) == []
        async with self._session.request(method, path, params=query, json=body) as response:
            text = await response.read()
            answer = await response.json() if text else None
            assert self._judge.faults_in_answer(method, path, response.status, answer) == []
            return response.status, answer

    async def earlier(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """What API v1 answers, unjudged."""
        async with self._session.request(method, path, params=query, json=body) as response:
            return await response.json()

    async def get(self, path: str, **query: str) -> Any:
        """The body of a GET that works."""
        status, body = await self.ask("GET", path, None, is_sound=True, **query)
        assert status == 200, body
        return body


def judged(session: aiohttp.ClientSession) -> Api:
    return Api(session, description())


def description() -> Description:
    found = described()
    if found is None:
        pytest.skip(f"the API description is not there: {DESCRIPTION}; answers of API v2 are NOT checked")
    return found


def policy(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A sound policy of API v2 for all images."""
    mapping = {**named("all"), "rule_set_ids": ["rules"], "allowlist_ids": ["pardons"]}
    return {
        "id": "p",
        "name": "p",
        "version": "2",
        "rule_sets": [{"id": "rules", "name": "rules", "version": "2", "rules": list(rules)}],
        "allowlists": [{"id": "pardons", "name": "pardons", "version": "2", "items": []}],
        "mappings": [mapping],
        "allowlisted_images": [],
        "denylisted_images": [],
        **more,
    }


def named(name: str, **more: Any) -> dict[str, Any]:
    return {**selection(**more), "id": name}
