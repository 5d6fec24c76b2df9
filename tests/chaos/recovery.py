"""How long after a fault's end everything is as before: known images are decided, and the decisions are in the stream.

Probe Pods go out four times a second whatever became of the last ones. It counts from the fault's end to the moment when the first
of some probes in a row was answered and found in the stream: one lucky answer is no recovery.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from tests.chaos.ledger import Ledger
from tests.chaos.load import create
from tests.chaos.oracle import Admission, Kind
from tests.support.api import Api

EVERY = 0.25
"""Seconds between two probes."""

IN_A_ROW = 6

LIMIT = 10.0
"""Seconds that the promise allows."""

PATIENCE = 60.0
"""Seconds after which nobody waits any more."""


class Seen(Protocol):
    """Something that is well from some moment on."""

    seen: float | None


class Probe:
    """A known good Pod and a known bad one."""

    def __init__(self, api: Api, namespace: str, number: int) -> None:
        kinds = (Kind.GOOD, Kind.BAD)
        self._tasks = [
            asyncio.create_task(create(api, namespace, f"probe-{kind}-{number}", kind)) for kind in kinds
        ]
        self.seen: float | None = None
        """When it was found to be decided rightly and recorded."""

    @property
    def admissions(self) -> list[Admission]:
        """Those answered so far."""
        return [task.result() for task in self._tasks if task.done()]

    async def finish(self) -> list[Admission]:
        """Wait for the answers."""
        return list(await asyncio.gather(*self._tasks))

    def look(self, ledger: Ledger) -> None:
        """Note when all is well."""
        if self.seen is None and len(self.admissions) == len(self._tasks):
            actions = {Kind.GOOD: "allowed", Kind.BAD: "rejected"}
            if all(each.is_final and ledger.has(each.pod, actions[each.kind]) for each in self.admissions):
                self.seen = time.monotonic()


async def recover(api: Api, namespace: str, ledger: Ledger) -> tuple[float | None, list[Admission]]:
    """Seconds from now until all is well, None: not within `PATIENCE`; and the probes' own admissions. Somebody reads the ledger."""
    began = time.monotonic()
    probes: list[Probe] = []
    try:
        while time.monotonic() - began < PATIENCE:
            probes.append(Probe(api, namespace, len(probes)))
            await asyncio.sleep(EVERY)
            for probe in probes:
                probe.look(ledger)
            if (since := streak(probes)) is not None:
                return since - began, await _all(probes)
        return None, await _all(probes)
    finally:
        await _all(probes)


def streak(probes: Sequence[Seen]) -> float | None:
    """When the first of so many neighbours in a row was seen to be well; None: no such row yet."""
    for first in range(len(probes) - IN_A_ROW + 1):
        row = [probe.seen for probe in probes[first : first + IN_A_ROW]]
        if all(seen is not None for seen in row):
            return row[0]
    return None


async def _all(probes: Sequence[Probe]) -> list[Admission]:
    return [each for probe in probes for each in await probe.finish()]
