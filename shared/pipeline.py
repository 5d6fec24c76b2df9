"""Publishing without a wait for each message: what was acknowledged comes back by its number.

`Broker.publish` keeps a task, a timer and a future for each message, which is most of its cost. Here a message is
written to the connection, its acknowledgement comes to an inbox that all of them share, and the caller keeps the
account: what is not answered for in time is sent again by whoever sent it, with its own id.
"""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared import subjects
from shared.broker import Broker
from shared.errors import Unavailable


class _Fault(msgspec.Struct, frozen=True):
    code: int = 0
    description: str = ""


class _Acknowledgement(msgspec.Struct, frozen=True):
    """What JetStream answers; a duplicate is as good as the first."""

    seq: int = 0
    error: _Fault | None = None


_DECODER = msgspec.json.Decoder(_Acknowledgement)

Answered = Callable[[int, str], None]
"""Told the number of each message that was answered for, and why it was refused (empty: it is stored)."""


class Pipeline:
    """An open inbox for acknowledgements."""

    def __init__(self, broker: Broker, inbox: str) -> None:
        self._broker = broker
        self._inbox = inbox
        self._numbers = itertools.count(1)

    async def send(self, subject: str, payload: bytes, headers: dict[str, str]) -> int:
        """Hand a message to the connection; gives its number. Raises `Unavailable`."""
        if not self._broker.is_connected:
            raise Unavailable("nats", "not connected")
        number = next(self._numbers)
        reply, text = f"{self._inbox}.{number}", "\r\n".join(map(": ".join, headers.items()))
        try:
            if text.count("\n") == len(headers) - 1 == text.count("\r"):
                await _write(self._broker.client, subject, reply, text, payload)
            else:  # a value of more than one line: nats-py makes one of it
                await self._broker.client.publish(subject, payload, reply, headers)
        except (nats.errors.Error, OSError) as error:
            raise Unavailable("nats", f"{subject}: {type(error).__name__} {error}") from error
        return number


async def _write(client: Client, subject: str, reply: str, headers: str, payload: bytes) -> None:
    """What `Client.publish` of nats-py 2.16 does, which looks at each header by a pattern: half of what publishing costs."""
    text = f"NATS/1.0\r\n{headers}\r\n\r\n".encode()
    line = f"HPUB {subject} {reply} {len(text)} {len(text) + len(payload)}\r\n".encode()
    await client._send_command(b"".join((line, text, payload, b"\r\n")))  # noqa: SLF001  there is no public way
    queue = client._flush_queue  # noqa: SLF001
    if queue is not None and queue.empty():
        await client._flush_pending()  # noqa: SLF001


@asynccontextmanager
async def open_pipeline(broker: Broker, answered: Answered) -> AsyncIterator[Pipeline]:
    """A pipeline over a connection that stands; it outlives reconnections. Raises `Unavailable`."""
    inbox = broker.client.new_inbox()

    async def take(message: Msg) -> None:
        number = message.subject.rpartition(".")[2]
        answered(int(number), _refusal(message))

    try:
        subscription = await broker.client.subscribe(f"{inbox}.*", cb=take)
    except (nats.errors.Error, OSError) as error:
        raise Unavailable("nats", f"no inbox: {type(error).__name__} {error}") from error
    try:
        yield Pipeline(broker, inbox)
    finally:
        if broker.is_connected:
            await subscription.unsubscribe()


def _refusal(message: Msg) -> str:
    """Why the stream has it not; empty where it has."""
    if not message.data:  # nobody listens: the stream is not there
        return f"there is no stream {subjects.EVENTS}"
    try:
        found = _DECODER.decode(message.data)
    except msgspec.MsgspecError as error:
        return f"an acknowledgement that cannot be read: {error}"
    if found.error:
        return found.error.description or f"error {found.error.code}"
    return "" if found.seq else "an acknowledgement without a sequence"
