"""A steady load whose traces go again: Pods by unique names, of images that come round, deleted after a minute."""

import asyncio
import contextlib
import itertools
from collections import Counter, deque

import aiohttp

from tests.chaos.oracle import Kind
from tests.support.api import Api, pods
from tests.support.road import pod

IMAGES = 200
"""Distinct ones: after the first round nothing is new, as in a cluster that has found its shape."""

LIFE = 60.0
"""Seconds a Pod is there."""

BAD_ONE_IN = 5


def image_of(number: int) -> tuple[str, Kind]:
    """Every fifth is bad."""
    turn = number % IMAGES
    if turn % BAD_ONE_IN == 0:
        return f"registry.example/bad/soak-{turn}:1", Kind.BAD
    return f"registry.example/bulk/soak-{turn}:1", Kind.GOOD


class Load:
    """Runs until it is cancelled."""

    def __init__(self, api: Api, namespace: str, pace: float) -> None:
        self._api = api
        self._namespace = namespace
        self._pace = pace
        self._there: deque[tuple[float, str]] = deque()
        self.answers: Counter[str] = Counter()
        """`good 201`, `bad 403`, …"""
        self.wrong: list[str] = []
        """Bad ones that were let in."""

    async def run(self) -> None:
        """Create at the pace, and delete behind."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                group.create_task(self._create(number))
                while self._there and self._there[0][0] < loop.time() - LIFE:
                    group.create_task(self._delete(self._there.popleft()[1]))
                await asyncio.sleep(max(0.0, began + (number + 1) / self._pace - loop.time()))

    async def _create(self, number: int) -> None:
        (image, kind), name = image_of(number), f"soak-{number}"
        try:
            reply = await self._api.create_pod(
                self._namespace, pod(name, image, schedulerName="nobody", terminationGracePeriodSeconds=0)
            )
        except (aiohttp.ClientError, OSError) as error:
            self.answers[f"{kind} {type(error).__name__}"] += 1
            return
        self.answers[f"{kind} {reply.status}"] += 1
        if reply.status == 201:
            self._there.append((asyncio.get_running_loop().time(), name))
            if kind.is_bad:
                self.wrong.append(name)

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await self._api.send("DELETE", pods(self._namespace, name))
