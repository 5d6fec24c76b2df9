"""Decisions on their way to NATS: recorded before the answer goes out, published behind it, in order of age.

A decision stays here until the stream has acknowledged it, and is repeated with its own id, so that NATS
being away for a while loses nothing and stores nothing twice. What is left at the stop goes to stdout as
JSON lines. The outbox lives in memory: it survives everything but the end of the process.
"""

import asyncio
import sys
from collections import OrderedDict

import msgspec

from services.gateway.metrics import GatewayMetrics
from shared import logs
from shared.broker import Broker
from shared.contracts import AdmissionDecided
from shared.errors import Permanent, Unavailable
from shared.subjects import decision_subject

MAX_ENTRIES = 50_000
"""Decisions held while NATS is away: about 100 MiB. One more drops the newest, counted and logged whole."""

IN_FLIGHT = 64
"""Publishes under way at once: acknowledgements come back in about a millisecond each."""

RETRY = 0.5
"""Seconds before what was not acknowledged is published again."""


class Outbox:
    """A bounded queue of decisions, emptied in the background."""

    def __init__(self, broker: Broker, metrics: GatewayMetrics) -> None:
        self._broker = broker
        self._metrics = metrics
        self._entries: OrderedDict[str, tuple[AdmissionDecided, str]] = OrderedDict()
        self._new = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._log = logs.logger("outbox")

    def record(self, decided: AdmissionDecided, trace: str) -> None:
        """Keep the decision until NATS has it."""
        if len(self._entries) >= MAX_ENTRIES:
            self._metrics.unrecorded.inc()
            self._log.error("decision_unrecorded", decision=_line(decided))
            return
        self._entries[decided.id] = (decided, trace)
        self._empty.clear()
        self._new.set()
        self._metrics.outbox_entries.set(len(self._entries))

    async def run(self) -> None:
        """Publish until cancelled."""
        await self._broker.connected()
        while True:
            await self._new.wait()
            self._new.clear()
            while self._entries:
                batch = list(self._entries.values())[:IN_FLIGHT]
                acknowledged = await asyncio.gather(*(self._publish(*entry) for entry in batch))
                if not any(acknowledged):
                    await asyncio.sleep(RETRY)
            self._empty.set()

    async def drain(self, seconds: float) -> None:
        """Wait until everything is published, at most so long; what is left goes to stdout."""
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            self._log.error("outbox_not_drained", entries=len(self._entries))
            for decided, _ in self._entries.values():
                sys.stdout.write(_line(decided) + "\n")
            sys.stdout.flush()

    async def _publish(self, decided: AdmissionDecided, trace: str) -> bool:
        """True once the decision is off this process's hands."""
        subject = decision_subject(decided.namespace)
        try:
            await self._broker.publish(subject, decided, decided.id, trace)
        except Unavailable as error:
            self._log.warning("decision_not_acknowledged", decision=decided.id, error=str(error))
            return False
        except Permanent as error:
            self._metrics.unrecorded.inc()
            self._log.exception("decision_unrecorded", decision=decided.id, error=str(error))
        self._entries.pop(decided.id, None)
        self._metrics.outbox_entries.set(len(self._entries))
        return True


def _line(decided: AdmissionDecided) -> str:
    """As JSON, also where it is larger than a message may be: here it is kept or lost."""
    return msgspec.json.encode(decided).decode()
