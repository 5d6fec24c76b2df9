"""Whether a fault bites: what the services' own metrics, NATS and the answers show of it.

A fault that nobody notices proves nothing. Each names the signs that must show; the calm before it is the measure: only
what is beyond it counts.
"""

import asyncio
import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterable
from typing import Any

import aiohttp

from shared import subjects
from tests.chaos.connections import FAILURES, connected
from tests.chaos.oracle import TOO_MANY, Admission
from tests.chaos.stage import Stage

EVERY = 0.5
"""Seconds between two looks."""

_SAMPLE = re.compile(r"^(moorgate_\w+)(\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)
_FINE = re.compile(r'code="(2\d\d|404)"')
"""404 is how Anchore says that it has not seen an image."""


class Signs:
    """Peaks of gauges and increments of counters, in the calm and in the fault."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._is_calm = True
        self._before: dict[str, float] = {}
        self._calm: dict[str, float] = defaultdict(float)
        self._fault: dict[str, float] = defaultdict(float)
        self._began = self._ended = time.monotonic()

    def watches(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What looks again and again until cancelled, each for itself: who waits for NATS holds up no other look."""
        return self._watch_events(), self._watch_services()

    def begin(self) -> None:
        """The calm is over."""
        self._is_calm, self._began = False, time.monotonic()

    def end(self) -> None:
        """The fault is over; what it leaves behind may show for some seconds more."""
        self._ended = time.monotonic()

    def tell(self, name: str, count: float) -> None:
        """What the fault itself has counted."""
        self._fault[name] += count

    def found(self, admissions: Iterable[Admission], calm_from: float) -> dict[str, int]:
        """The signs by name, those above what was so in the calm."""
        calm, fault = defaultdict(float, self._calm), defaultdict(float, self._fault)
        ratio = (self._ended - self._began + AFTER) / max(self._began - calm_from, 1)
        for each in admissions:
            if not each.is_final:
                name = "deferred" if each.status == TOO_MANY else "not decided"
                if each.at + each.took < self._began:
                    calm[name] += ratio
                elif each.at < self._ended + AFTER:
                    fault[name] += 1
        return {name: round(count - calm[name]) for name, count in fault.items() if count - calm[name] >= 1}

    async def _watch_events(self) -> None:
        while True:
            await self._events()
            await asyncio.sleep(EVERY)

    async def _watch_services(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            while True:
                names = self._stage.services.processes
                await asyncio.gather(*(self._service(session, name) for name in names))
                await asyncio.sleep(EVERY)

    async def _service(self, session: aiohttp.ClientSession, name: str) -> None:
        try:
            async with session.get(f"{self._stage.services.probes_url(name)}/metrics") as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            self._peak("silent services", 1)
            return
        samples = {f"{m[1]}{m[2] or ''}": float(m[3]) for m in _SAMPLE.finditer(text)}
        self._peak("outbox entries", samples.get("moorgate_outbox_entries", 0))
        self._peak("outboxes missed", samples.get('moorgate_degraded{part="outbox"}', 0))
        self._peak("NATS missed", samples.get('moorgate_degraded{part="nats"}', 0))
        self._peak("breakers open", samples.get("moorgate_anchore_breakers_open", 0))
        for sample, value in samples.items():
            if sample.startswith("moorgate_anchore_requests_total{") and not _FINE.search(sample):
                self._count("Anchore errors", f"{name} {sample}", value)
            elif sample == "moorgate_scans_put_back_total":
                self._count("scans put back", f"{name} {sample}", value)
            elif sample == "moorgate_verdict_mirror_entries":
                self._fall("verdicts gone", f"{name} {sample}", value)

    async def _events(self) -> None:
        """Deliveries of decisions that came again and are not acknowledged yet."""
        options = self._stage.nats_cluster.options("operator")
        with contextlib.suppress(*FAILURES):
            async with connected(options, 1) as client:
                info = await client.jetstream(timeout=1).consumer_info(subjects.EVENTS, subjects.AUDIT_WRITER)
            self._peak("events redelivered", info.num_redelivered or 0)
            self._peak("events waiting", (info.num_pending or 0) + (info.num_ack_pending or 0))

    def _peak(self, name: str, value: float) -> None:
        into = self._calm if self._is_calm else self._fault
        into[name] = max(into[name], value)

    def _count(self, name: str, key: str, value: float) -> None:
        """A counter; a process that was restarted begins at nothing."""
        before = self._before.get(key)
        self._before[key] = value
        if before is not None and not self._is_calm:
            self._fault[name] += value - before if value >= before else value

    def _fall(self, name: str, key: str, value: float) -> None:
        before = self._before.get(key, value)
        self._before[key] = max(value, before)
        self._peak(name, before - value)


AFTER = 10.0
"""Seconds after a fault that its signs are looked for: what it held up ends then."""
