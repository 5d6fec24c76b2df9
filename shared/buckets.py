"""Key-value buckets: one entry read or written, and the in-memory mirror of a whole bucket.

Why not nats-py's own KeyValue: in 2.16 an expired key reads as an entry without a value, `create`
fails while the expiry marker lives, puts have no TTL, and its watcher takes twice as long for
100,000 keys and notices a restarted server up to 20 s late. A bucket is a stream with a convention
(ADR-8 of the NATS architecture), so this speaks to the stream.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from shared import logs
from shared.broker import Broker
from shared.errors import Unavailable
from shared.ordered_consumer import OrderedConsumer, Position
from shared.streams import bucket_stream

RESTART_WAIT = 1.0
"""Seconds before a lost mirror is begun anew: consumers made in a loop would leak."""

MIN_TTL = 1
"""Seconds; NATS refuses less."""


class Entry(NamedTuple):
    """A value as it lies in the bucket, with the revision to compare and set by."""

    revision: int
    value: bytes


class Bucket:
    """Single entries, read from any replica of the stream and written with a TTL."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._stream = bucket_stream(name)
        self._prefix = f"$KV.{name}."

    async def get(self, key: str) -> Entry:
        """The entry; an empty value where the key is not there, with the revision to write over (0: never written).

        Raises `Unavailable`.
        """
        if not self._broker.is_connected:
            raise Unavailable("nats", "not connected")
        try:
            message = await self._broker.jetstream.get_last_msg(self._stream, self._prefix + key, direct=True)
        except nats.js.errors.NotFoundError:
            return Entry(0, b"")
        except (nats.js.errors.Error, nats.errors.Error, TimeoutError) as error:
            raise Unavailable("nats", f"{self._stream}: {type(error).__name__} {error}") from error
        is_marker = _is_marker(message.headers)
        return Entry(message.seq or 0, b"" if is_marker else message.data or b"")

    async def put(self, key: str, value: bytes, *, ttl: float, over: int | None = None) -> int:
        """Write; gives the new revision. `ttl` in seconds; `over`: only if this is still the revision.

        Raises `Conflict` when it is not, `Unavailable`.
        """
        headers = {"Nats-TTL": f"{max(MIN_TTL, round(ttl))}s"}
        if over is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(over)
        return await self._broker.publish_raw(self._prefix + key, value, headers)

    async def delete(self, key: str) -> None:
        """Remove; mirrors see it at once. Raises `Unavailable`."""
        headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": "60s"}
        await self._broker.publish_raw(self._prefix + key, b"", headers)


class BucketMirror:
    """A copy of one bucket in memory, kept by one ephemeral consumer and rebuilt whenever that is in doubt.

    While it is rebuilt the old copy goes on answering; values carry their own age.
    """

    def __init__(self, broker: Broker, name: str) -> None:
        self.ready = asyncio.Event()
        """Set once the first copy is complete."""
        self._broker = broker
        self._name = name
        self._stream = bucket_stream(name)
        self._prefix_length = len(f"$KV.{name}.")
        self._entries: dict[str, Entry] = {}
        self._loading: dict[str, Entry] | None = None
        self._consumer = OrderedConsumer(broker, self._stream, self._take)
        self._on_change: list[Callable[[str | None], None]] = []
        self._log = logs.logger("mirror").bind(bucket=name)

    def get(self, key: str) -> Entry | None:
        """The entry as last heard of."""
        return self._entries.get(key)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._entries))

    def on_change(self, call: Callable[[str | None], None]) -> None:
        """Call `call(key)` after each change; None: anything may have changed."""
        self._on_change.append(call)

    async def run(self) -> None:
        """Follow the bucket until cancelled."""
        while True:
            await self._broker.connected()
            try:
                await self._follow()
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                self._log.warning("mirror_interrupted", error=f"{type(error).__name__} {error}")
            await asyncio.sleep(RESTART_WAIT)

    async def _follow(self) -> None:
        """One consumer's life: everything once, then every change, until something is in doubt."""
        self._loading = {}
        info = await self._consumer.live(
            self._complete,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            filter_subject=f"$KV.{self._name}.>",
        )
        self._log.info("mirror_restarts")
        with contextlib.suppress(nats.errors.Error, nats.js.errors.Error, TimeoutError):
            await self._broker.jetstream.delete_consumer(self._stream, str(info.name))

    def _take(self, message: Msg, position: Position) -> None:
        self._apply(message, position.sequence)
        if position.pending == 0 and self._loading is not None:
            self._complete()

    def _apply(self, message: Msg, revision: int) -> None:
        key = message.subject[self._prefix_length :]
        entries = self._entries if self._loading is None else self._loading
        if _is_marker(message.headers) or not message.data:
            entries.pop(key, None)
        else:
            entries[key] = Entry(revision, message.data)
        if self._loading is None:
            self._changed(key)

    def _complete(self) -> None:
        if self._loading is None:
            return
        self._entries, self._loading = self._loading, None
        self._log.info("mirror_complete", entries=len(self._entries))
        self.ready.set()
        self._changed(None)

    def _changed(self, key: str | None) -> None:
        for call in self._on_change:
            call(key)


def _is_marker(headers: dict[str, str] | None) -> bool:
    """True for what says that a key is gone: deleted, purged or expired."""
    return headers is not None and ("KV-Operation" in headers or "Nats-Marker-Reason" in headers)
