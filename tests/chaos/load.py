"""The load: real Pods, each with a name of its own, created at a steady pace through the real API server.

One attempt each, as a controller makes it; what it would repeat is repeated under another name, so that every answer can be
held against what it must be.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator

import aiohttp
import msgspec

from tests.chaos.oracle import Admission, Kind
from tests.support.api import Api
from tests.support.road import pod

KNOWN = {Kind.GOOD: "registry.example/bulk/known:1", Kind.BAD: "registry.example/bad/known:1"}
"""Scanned before the fault."""

MIX = (*((Kind.GOOD,) * 6), *((Kind.BAD,) * 2), Kind.NEW_GOOD, Kind.NEW_BAD)
"""Of ten Pods."""

SLICE = 0.1
"""Seconds between two looks at how many are due."""


def image_of(kind: Kind, name: str) -> str:
    """A known image, or one that no other Pod has."""
    if kind.is_known:
        return KNOWN[kind]
    return f"registry.example/{'bad' if kind.is_bad else 'bulk'}/{name}:1"


class Load:
    """Pods into one namespace until it is told to stop."""

    def __init__(self, api: Api, namespace: str, *, pace: float) -> None:
        """`pace`: Pods a second."""
        self._api = api
        self._namespace = namespace
        self._pace = pace
        self._stop = asyncio.Event()
        self.admissions: list[Admission] = []
        """Those that were answered, or given up."""

    async def run(self) -> None:
        """Until `stop`, and until every answer is there."""
        names = self._pods()
        began = time.monotonic()
        sent = 0
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                due = int((time.monotonic() - began) * self._pace) - sent
                for name, kind in itertools.islice(names, due):
                    group.create_task(self._create(name, kind))
                sent += due
                await asyncio.sleep(SLICE)

    def stop(self) -> None:
        """No new ones."""
        self._stop.set()

    def _pods(self) -> Iterator[tuple[str, Kind]]:
        for number in itertools.count():
            kind = MIX[number % len(MIX)]
            yield f"{kind}-{number}", kind

    async def _create(self, name: str, kind: Kind) -> None:
        self.admissions.append(await create(self._api, self._namespace, name, kind))


async def create(api: Api, namespace: str, name: str, kind: Kind) -> Admission:
    """One Pod, once. Nobody schedules it: what is tested ends with its admission and its record."""
    at = time.monotonic()
    manifest = pod(name, image_of(kind, f"{namespace}-{name}"), schedulerName="nobody")
    try:
        reply = await api.create_pod(namespace, manifest)
    except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
        status, message = 0, f"{type(error).__name__}: {error}"
    else:
        status, message = reply.status, reply.message
    return Admission(pod=name, kind=kind, at=at, took=time.monotonic() - at, status=status, message=message)
