"""What a long run must not see grow: each service's memory, descriptors and tasks; what waits in NATS, and how large it is."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import aiohttp

from shared import subjects
from tests.chaos.connections import FAILURES, connected
from tests.chaos.stage import OWNER, Stage

MIB = 1024 * 1024

PROCESS = {
    "process_resident_memory_bytes": "RSS MiB",
    "process_open_fds": "descriptors",
    "moorgate_asyncio_tasks": "tasks",
    "moorgate_outbox_entries": "outbox entries",
    "moorgate_verdict_mirror_entries": "verdicts",
}
"""Samples that each service has, or has not, by what they are called here."""

_SAMPLE = re.compile(r"^(\w+) ([0-9.e+-]+)$", re.MULTILINE)


class Samples:
    """Series of values by what they are of, such as `gateway-0: RSS MiB`; all of one length but for faults."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._began = time.monotonic()
        self.series: Mapping[str, list[tuple[float, float]]] = defaultdict(list)
        """Seconds since the beginning, and the value."""
        self.missed: list[str] = []
        """What could not be read."""

    async def take(self) -> None:
        """One of everything."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            names = list(self._stage.services.processes)
            await asyncio.gather(self._nats(), *(self._service(session, name) for name in names))

    def note(self, name: str, value: float) -> None:
        """One value of one series."""
        self.series[name].append((time.monotonic() - self._began, value))

    async def _service(self, session: aiohttp.ClientSession, name: str) -> None:
        try:
            async with session.get(f"{self._stage.services.probes_url(name)}/metrics") as answer:
                found = dict(_SAMPLE.findall(await answer.text()))
        except (aiohttp.ClientError, TimeoutError) as error:
            self.missed.append(f"{name}: {type(error).__name__}")
            return
        for sample, called in PROCESS.items():
            if sample in found:
                scale = MIB if called.endswith("MiB") else 1
                self.note(f"{name}: {called}", float(found[sample]) / scale)

    async def _nats(self) -> None:
        try:
            async with connected(self._stage.nats_cluster.options(OWNER), 10) as client:
                context = client.jetstream(timeout=10)
                for info in await context.streams_info():
                    name = str(info.config.name)
                    self.note(f"{name}: messages", info.state.messages)
                    self.note(f"{name}: MiB", info.state.bytes / MIB)
                for stream in (subjects.EVENTS, subjects.SCANS):
                    for consumer in await context.consumers_info(stream):
                        waiting = (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
                        self.note(f"{stream}/{_kind(consumer.name)}: waiting", waiting)
                    self.note(f"{stream}: consumers", len(await context.consumers_info(stream)))
        except FAILURES as error:
            self.missed.append(f"NATS: {type(error).__name__}")


def _kind(consumer: str) -> str:
    """Durables by name; what comes and goes under one name for all."""
    return consumer if consumer and not re.fullmatch(r"[A-Za-z0-9]{22}|[0-9a-f]{8,}", consumer) else "others"


def values(series: Sequence[tuple[float, float]]) -> list[float]:
    """Without the times."""
    return [value for _, value in series]
