"""Decisions on their way to NATS: kept before the answer goes out, published behind it.

    keep     in the folder's file, which outlives this process; without a folder in memory
    answer   at once; with durability ack, or where nothing could be kept, once NATS has acknowledged
    publish  in the background, with the decision's own id, until NATS has acknowledged
    neither  could be had: answer or deny, as the setting says, and count it

The way is the same whether NATS is there or not.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from services.gateway.metrics import Damaged, GatewayMetrics
from services.gateway.outbox import records
from services.gateway.outbox.entries import Entry, Outgoing, outgoing
from services.gateway.outbox.folder import Folder, FolderFullError, Place
from services.gateway.outbox.publisher import Publisher
from services.gateway.outbox.settings import Durability, OnUnrecorded, OutboxSettings
from shared import logs
from shared.broker import Broker
from shared.contracts import MAX_MESSAGE_BYTES

DRAIN_TIMEOUT = 10.0
"""Seconds for publishing what is left at the stop."""

KEPT_BYTES = 8 * 1024 * 1024
"""Of decisions that stand in a file, so much is kept in memory as well: with NATS there, all."""

OVERHEAD = 512
"""Bytes of memory that a decision takes beside its text."""

PART = "outbox"


class Outbox:
    """Everything that NATS has not acknowledged."""

    def __init__(
        self, broker: Broker, metrics: GatewayMetrics, settings: OutboxSettings, folder: Folder | None = None
    ) -> None:
        self._metrics = metrics
        self._settings = settings
        self._folder = folder
        self._publisher = Publisher(broker, self._load, self._acknowledged, self._at_times)
        self._entries: dict[Entry, None] = {}
        self._in_memory = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._log = logs.logger("outbox")
        self._is_failing = False
        metrics.outbox_entries.set_function(lambda: len(self._entries))
        metrics.outbox_bytes.set_function(lambda: folder.size if folder else self._in_memory)
        metrics.degraded.labels(PART).set(0)
        if folder:
            self._take_over(folder.recover())

    async def record(self, message: Outgoing, seconds: float) -> bool:
        """Keep a decision, waiting at most so long; False: it must not be answered, for there is no record of it."""
        if len(message.payload) > MAX_MESSAGE_BYTES:
            return self._unrecorded(message)
        entry = self._keep(message)
        if entry.is_kept and self._settings.durability is Durability.OUTBOX:
            self._publisher.put(entry)
            return True
        entry.answer = asyncio.get_running_loop().create_future()
        self._publisher.put(entry)
        try:
            async with asyncio.timeout(seconds):
                await entry.answer
        except TimeoutError:
            return self._unanswered(entry, message)
        finally:
            entry.answer = None
        return True

    async def run(self) -> None:
        """Publish until cancelled."""
        await self._publisher.run()

    async def drain(self, seconds: float = DRAIN_TIMEOUT) -> None:
        """Wait until everything is published, at most so long; what is left goes to stdout, the oldest first."""
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            self._log.error("outbox_not_drained", entries=len(self._entries))
            for message in self.left():
                sys.stdout.write(message.payload.decode() + "\n")
            sys.stdout.flush()

    def left(self) -> list[Outgoing]:
        """What NATS has not acknowledged, the oldest first."""
        return [message for entry in list(self._entries) if (message := self._load(entry))]

    def close(self) -> None:
        """What stands in the folder is the next process'."""
        if self._folder:
            self._at_times()
            self._folder.close()

    def _take_over(self, places: list[Place]) -> None:
        entries = [Entry(place, None) for place in places]
        self._entries.update(dict.fromkeys(entries))
        if entries:
            self._empty.clear()
            self._log.info("outbox_taken_over", entries=len(entries))
        self._publisher.put_all(entries)

    def _keep(self, message: Outgoing) -> Entry:
        """In the file, or without one in memory, as long as there is room."""
        size = len(message.payload) + OVERHEAD
        if self._folder is None:
            entry = Entry(None, message)
            entry.is_kept = self._in_memory + size <= self._settings.limit
        else:
            place = self._append(self._folder, message)
            entry = Entry(place, message)
            if place and self._in_memory + size > KEPT_BYTES:
                entry.outgoing = None
        if entry.outgoing:
            self._in_memory += size
        self._entries[entry] = None
        self._empty.clear()
        return entry

    def _append(self, folder: Folder, message: Outgoing) -> Place | None:
        """None: nothing of it stands there."""
        try:
            place = folder.append(records.decision(message.trace, message.payload))
        except OSError as error:
            if not self._is_failing:
                why = str(error) if isinstance(error, FolderFullError) else error.strerror
                self._log.error(
                    "outbox_not_written", error=why, then="answers wait for NATS' acknowledgement"
                )
                self._tell(is_failing=True)
            return None
        if self._is_failing:
            self._log.info("outbox_written_again")
            self._tell(is_failing=False)
        return place

    def _tell(self, *, is_failing: bool) -> None:
        self._is_failing = is_failing
        self._metrics.degraded.labels(PART).set(int(is_failing))

    def _load(self, entry: Entry) -> Outgoing | None:
        """What to publish; None: it can be read no more, and is forgotten."""
        if entry.outgoing or not entry.place or not self._folder:
            return entry.outgoing
        try:
            found = self._folder.read(entry.place)
            if found:
                return outgoing(found)
            why = "its checksum is wrong"
        except OSError as error:
            why = str(error)
        except msgspec.MsgspecError as error:
            why = f"it is no decision: {error}"
        self._metrics.outbox_damaged.labels(Damaged.CORRUPT.value).inc()
        self._log.error(
            "outbox_damaged", file=str(entry.place.segment.path), begin=entry.place.offset, error=why
        )
        self._forget(entry)
        return None

    def _acknowledged(self, entry: Entry) -> None:
        if entry not in self._entries:  # given up meanwhile
            return
        if entry.answer and not entry.answer.done():
            entry.answer.set_result(None)
        self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry]
        if entry.outgoing:
            self._in_memory -= len(entry.outgoing.payload) + OVERHEAD
        if entry.place and self._folder:
            try:
                self._folder.acknowledge(entry.place)
            except OSError as error:
                self._log.warning("outbox_not_trimmed", error=str(error))
        if not self._entries:
            self._empty.set()

    def _unanswered(self, entry: Entry, message: Outgoing) -> bool:
        """The time is up. What is kept is published later."""
        if entry.is_kept:
            self._metrics.unacknowledged.inc()
            return True
        if entry in self._entries:
            entry.is_given_up = True
            self._forget(entry)
            entry.outgoing = None
        return self._unrecorded(message)

    def _unrecorded(self, message: Outgoing) -> bool:
        self._metrics.unrecorded.inc()
        if self._settings.on_unrecorded is OnUnrecorded.DENY:
            self._log.error("decision_refused", decision=message.id, why="it cannot be recorded")
            return False
        self._log.error("decision_unrecorded", decision=message.payload.decode())
        return True

    def _at_times(self) -> None:
        if self._folder:
            try:
                self._folder.mark()
            except OSError as error:
                self._log.warning("outbox_not_trimmed", error=str(error))


@asynccontextmanager
async def open_outbox(
    settings: OutboxSettings, broker: Broker, metrics: GatewayMetrics
) -> AsyncIterator[Outbox]:
    """The outbox, with what another process has left in its folder. Raises `BadSetting`."""
    folder = Folder(settings.path, settings.limit, metrics) if settings.path else None
    outbox = Outbox(broker, metrics, settings, folder)
    try:
        yield outbox
    finally:
        outbox.close()
