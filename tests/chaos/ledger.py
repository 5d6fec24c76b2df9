"""What the stream of events holds on one namespace, read message by message from the stream's leader.

Of the code under test it takes only names: what a message says is read by a shape of its own. A connection of its own, made anew
after each failure, so that it is never what has to recover.
"""

import asyncio
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import msgspec
import nats.js.errors
from nats.aio.client import Client

from shared import subjects
from tests.chaos.connections import FAILURES, connect, hang_up
from tests.chaos.oracle import Record

SKEW = timedelta(minutes=30)
"""A decision whose time is so far from the stream's was taken by a wrong clock."""

TIMEOUT = 2.0

EVERY = 0.2
"""Seconds between two looks."""


class Decided(msgspec.Struct, frozen=True, rename="camel"):
    """A message of the stream."""

    id: str
    pod_name: str
    action: str
    decided_at: datetime


_DECIDED = msgspec.json.Decoder(Decided)


class Ledger:
    """The records of a namespace, oldest first, as far as they were read; an async context manager."""

    def __init__(self, options: dict[str, Any], namespace: str) -> None:
        self._options = options
        self._subject = subjects.decision_subject(namespace)
        self._next = 1
        self._client: Client | None = None
        self._reading = asyncio.Lock()
        self.records: list[Record] = []
        self.skewed = 0
        """How many came from a wrong clock."""

    @property
    def doubles(self) -> int:
        """Messages whose decision the stream holds already."""
        return len(self.records) - len({each.id for each in self.records})

    def has(self, pod: str, action: str) -> bool:
        """Whether this was recorded."""
        return any(each.pod == pod and each.action == action for each in reversed(self.records))

    async def follow(self) -> None:
        """Read again and again until cancelled."""
        while True:
            await self.read()
            await asyncio.sleep(EVERY)

    async def read(self) -> bool:
        """Read what is new; False: NATS did not say."""
        async with self._reading:
            return await self._read()

    async def _read(self) -> bool:
        try:
            if self._client is None:
                self._client = await connect(self._options, TIMEOUT)
            stream = self._client.jetstream(timeout=TIMEOUT)
            while True:
                message = await stream.get_msg(
                    subjects.EVENTS, seq=self._next, subject=self._subject, next=True
                )
                self._note(message.data or b"", message.time)
                self._next = (message.seq or 0) + 1
        except nats.js.errors.NotFoundError:
            return True
        except FAILURES:
            await self.close()
            return False

    async def close(self) -> None:
        """Hang up; reading goes on with a new connection."""
        client, self._client = self._client, None
        if client is not None:
            await hang_up(client)

    def _note(self, data: bytes, stored: datetime | None) -> None:
        decided = _DECIDED.decode(data)
        if stored is not None and abs(stored - decided.decided_at) > SKEW:
            self.skewed += 1
        self.records.append(Record(id=decided.id, pod=decided.pod_name, action=decided.action))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
