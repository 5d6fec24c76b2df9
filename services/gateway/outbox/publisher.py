"""From the outbox to the stream: in order of age, many under way at once, until each is acknowledged.

One for which an answer waits goes before those that only have to arrive. What is not acknowledged in time, was
refused, or was under way when the connection broke is sent again with its own id; the order of arrival is nobody's
promise, and Audits do not depend on it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from services.gateway.outbox.entries import Entry, Outgoing
from shared import logs
from shared.broker import Broker
from shared.errors import Unavailable
from shared.pipeline import Pipeline, open_pipeline

IN_FLIGHT = 256
"""Messages under way at once: acknowledgements come back in about a millisecond."""

IN_FLIGHT_BYTES = 4 * 1024 * 1024
"""Bytes under way at once: what stands in the connection's buffers too."""

ACK_TIMEOUT = 2.0
"""Seconds after which a message is sent again: what NATS took in while it lost a leader it never answers for, and
until then the decision is not in the stream. Sending again costs little, for the id makes it one."""

SAID_EVERY = 5.0
"""Seconds from one line in the log to the next."""

RETRY = 0.5
"""Seconds before the next attempt, where NATS is away or has refused."""

LINGER = 0.005
"""Seconds a decision for which nobody waits is kept back, so that one write takes all of that time."""

TICK = 0.5
"""Seconds between two looks at what is late, and between two heaps of acknowledgements written down."""

TURN = 64
"""Messages handed over before others have their turn: answers do not wait for a long backlog."""


class Publisher:
    """What waits, and what is under way."""

    def __init__(
        self,
        broker: Broker,
        load: Callable[[Entry], Outgoing | None],
        acknowledged: Callable[[Entry], None],
        at_times: Callable[[], None],
    ) -> None:
        """`load` gives what to send (None: there is nothing to send any more); `at_times`: what is done in heaps."""
        self._broker = broker
        self._load = load
        self._acknowledged = acknowledged
        self._at_times = at_times
        self._urgent: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._under_way: dict[int, tuple[Entry, int, float]] = {}
        """By number: the entry, its bytes, when it was sent; in the order of sending."""
        self._bytes = 0
        self._news = asyncio.Event()
        self._said = 0.0
        self._is_lingering = False
        self._log = logs.logger("outbox")
        broker.on_reconnect(self._take_back_all)

    def put(self, entry: Entry) -> None:
        """Publish it in its turn; at once if an answer waits for it."""
        if entry.answer:
            self._urgent.append(entry)
            self._news.set()
            return
        self._waiting.append(entry)
        if not self._is_lingering:
            self._is_lingering = True
            asyncio.get_running_loop().call_later(LINGER, self._end_linger)

    def _end_linger(self) -> None:
        self._is_lingering = False
        self._news.set()

    def put_all(self, entries: Iterable[Entry]) -> None:
        """Publish these, in this order."""
        self._waiting.extend(entries)
        self._news.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        await self._broker.connected()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_time())
            while True:
                try:
                    async with open_pipeline(self._broker, self._answered) as pipeline:
                        await self._publish(pipeline)
                except Unavailable as error:
                    self._tell(str(error))
                    await asyncio.sleep(RETRY)

    async def _publish(self, pipeline: Pipeline) -> None:
        while True:
            self._news.clear()
            try:
                is_more = await self._send(pipeline)
            except Unavailable as error:
                self._tell(str(error))
                await asyncio.sleep(RETRY)
                continue
            await (asyncio.sleep(0) if is_more else self._news.wait())

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._at_times()
            self._take_back_late()

    async def _send(self, pipeline: Pipeline) -> bool:
        """Whether there is more to send now. Raises `Unavailable`."""
        for _ in range(TURN):
            if len(self._under_way) >= IN_FLIGHT or self._bytes >= IN_FLIGHT_BYTES:
                return False
            queue = self._urgent or self._waiting
            if not queue:
                return False
            entry = queue.popleft()
            if entry.is_given_up:
                continue
            outgoing = self._load(entry)
            if outgoing is None:
                continue
            await self._hand_over(pipeline, entry, outgoing)
        return True

    async def _hand_over(self, pipeline: Pipeline, entry: Entry, outgoing: Outgoing) -> None:
        try:
            headers = self._broker.headers(outgoing.type_name, outgoing.id, outgoing.trace)
            number = await pipeline.send(outgoing.subject, outgoing.payload, headers)
        except BaseException:  # also at a cancellation: it is still to be published
            self._put_back(entry)
            raise
        size = len(outgoing.payload)
        self._under_way[number] = entry, size, asyncio.get_running_loop().time()
        self._bytes += size

    def _answered(self, number: int, refusal: str) -> None:
        entry = self._remove(number)
        if entry is None:  # sent again meanwhile
            return
        if not refusal:
            self._acknowledged(entry)
            if self._urgent or self._waiting:
                self._news.set()
            return
        self._tell(refusal)
        asyncio.get_running_loop().call_later(RETRY, self._again, entry)

    def _again(self, entry: Entry) -> None:
        self._put_back(entry)
        self._news.set()

    def _take_back_late(self) -> None:
        """What was sent too long ago is sent again."""
        limit = asyncio.get_running_loop().time() - ACK_TIMEOUT
        late = [number for number, (_, _, sent) in self._under_way.items() if sent <= limit]
        if late:
            self._tell(f"{len(late)} not acknowledged within {ACK_TIMEOUT:.0f} s")
            self._take_back(late)
            self._news.set()

    def _take_back_all(self) -> None:
        """The acknowledgements of a connection that broke never come."""
        self._take_back(list(self._under_way))
        self._news.set()

    def _take_back(self, numbers: list[int]) -> None:
        for number in reversed(numbers):  # the oldest comes to stand first
            entry = self._remove(number)
            if entry is not None:
                self._put_back(entry)

    def _put_back(self, entry: Entry) -> None:
        (self._urgent if entry.answer else self._waiting).appendleft(entry)

    def _remove(self, number: int) -> Entry | None:
        found = self._under_way.pop(number, None)
        if found is None:
            return None
        self._bytes -= found[1]
        return found[0]

    def _tell(self, why: str) -> None:
        """Not for each decision, and not for each attempt."""
        now = asyncio.get_running_loop().time()
        if now - self._said >= SAID_EVERY:
            self._said = now
            self._log.warning("decision_not_acknowledged", error=why, under_way=len(self._under_way))
