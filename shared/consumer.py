"""The one loop that takes deliveries, and the one place that acknowledges them.

    handler returns            ack
    Retryable                  nak with its delay, as often as it takes
    Unavailable                stop pulling, hold the delivery by in_progress until a probe succeeds
    Permanent, undecodable     dead letter first, then term
    anything else              a bug: logged with its trace, nak'ed, given up after `BUG_DELIVERIES`
    cancelled (stop)           given back at once, for another worker

A handler must bear the same delivery twice: an ack can be lost, and a worker can die before it.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Generic

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from shared import contracts, logs, subjects
from shared.broker import Broker
from shared.contracts import DeadLetter, Decoder, M
from shared.errors import Permanent, Retryable, Unavailable
from shared.metrics import CommonMetrics

FETCH_TIMEOUT = 5.0
"""Seconds one pull request waits for a message. One message a request: larger batches stall in nats-py 2.16."""

BUG_DELIVERIES = 5
"""Times that a message meets a bug in one process before it is given up: it may be the message."""

MAX_BUGS_REMEMBERED = 10_000
"""Messages whose bugs are counted at once; beyond, all counts begin anew."""

BUG_DELAY = 5.0
"""Seconds until a message that met a bug is tried again."""

DURABLE_LOOK = 10.0
"""Seconds between two looks whether the durable is still there."""

PROBE_WAIT = 1.0
"""Seconds between two probes of a neighbour that is away."""

MAX_HOLDS = 3
"""Times a delivery is tried again after its neighbour came back; then it is given back, for it may be the cause."""

HOLD_DELAY = 10.0
"""Seconds until a delivery given back so comes again."""

MAX_PAYLOAD_KEPT = 96 * 1024
"""Bytes of a message kept in its dead letter: Base64 grows them by a third, and a message has 256 KiB."""


class Delivery(msgspec.Struct, frozen=True):
    """What is known of a delivery besides its message."""

    subject: str
    stream: str
    sequence: int
    number: int
    """1 for the first delivery of the message."""
    trace: str
    """The W3C traceparent it came with."""


class Work(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """What a consumer takes and does."""

    what: str
    """The word for dead letters and logs: `scan`, `decision`."""
    stream: str
    durable: str
    decoder: Decoder[M]
    handle: Callable[[M, Delivery], Awaitable[None]]
    probe: Callable[[], Awaitable[bool]]
    """True once the neighbour that was away answers again."""
    concurrency: int
    """Deliveries in work at once."""
    ack_wait: float
    """Seconds, as the durable has it; long work is renewed in time."""
    mend: Callable[[], Awaitable[None]] | None = None
    """Makes the durable anew (or waits for it) when it is gone, as after a lost store of NATS."""


MAX_PULLS = 16
"""Pull requests a consumer has open at most; more deliveries than that may be in work."""


class Consumer(Generic[M]):
    """Pulls from one durable and works on up to `concurrency` deliveries at once."""

    def __init__(self, broker: Broker, metrics: CommonMetrics, work: Work[M]) -> None:
        self._broker = broker
        self._metrics = metrics
        self._work = work
        self._open = asyncio.Event()
        self._open.set()
        self._bugs: Counter[int] = Counter()
        metrics.dead_letters.labels(work.what)
        self._room = asyncio.Semaphore(work.concurrency)
        self._log = logs.logger("consumer").bind(what=work.what, durable=work.durable)

    async def run(self) -> None:
        """Take deliveries until cancelled."""
        await self._broker.connected()
        async with contextlib.AsyncExitStack() as stack:
            pulls = [
                await stack.enter_async_context(self._subscription())
                for _ in range(min(MAX_PULLS, self._work.concurrency))
            ]
            async with asyncio.TaskGroup() as group:
                for subscription in pulls:
                    group.create_task(self._pull(subscription, group))
                if self._work.mend is not None:
                    group.create_task(self._keep_durable(self._work.mend))

    @contextlib.asynccontextmanager
    async def _subscription(self) -> AsyncIterator[JetStreamContext.PullSubscription]:
        """An inbox for one pull alone.

        Of several `fetch` on one subscription of nats-py 2.16, one takes what another has asked for, which then waits
        out its time for nothing: of eight workers one was at work.
        """
        subscription = await self._broker.jetstream.pull_subscribe_bind(
            consumer=self._work.durable, stream=self._work.stream
        )
        try:
            yield subscription
        finally:  # what nobody listens to would swallow the next requests until the ack wait
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def _keep_durable(self, mend: Callable[[], Awaitable[None]]) -> None:
        """A pull from a durable that is gone waits without a word: look now and then."""
        while not _is_cancelled():
            await asyncio.sleep(DURABLE_LOOK)
            try:
                await self._broker.jetstream.consumer_info(self._work.stream, self._work.durable)
            except nats.js.errors.NotFoundError:
                self._log.warning("durable_missing")
                await self._mend(mend)
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                self._log.debug("durable_not_seen", error=str(error))

    async def _mend(self, mend: Callable[[], Awaitable[None]]) -> None:
        try:
            await mend()
        except (Unavailable, nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            self._log.warning("durable_not_mended", error=str(error))
        else:
            self._log.info("durable_mended")

    async def _pull(self, subscription: JetStreamContext.PullSubscription, group: asyncio.TaskGroup) -> None:
        while not _is_cancelled():
            await self._open.wait()
            await self._room.acquire()
            message = await self._fetch(subscription)
            if message is None:
                self._room.release()
            else:
                task = group.create_task(self._settle(message))
                task.add_done_callback(lambda _: self._room.release())

    async def _fetch(self, subscription: JetStreamContext.PullSubscription) -> Msg | None:
        """The next message, or None where there is none for a while."""
        try:
            [message] = await subscription.fetch(1, timeout=FETCH_TIMEOUT)
        except TimeoutError:  # nothing to do; also nats.errors.TimeoutError
            return None
        except (nats.errors.Error, nats.js.errors.Error) as error:
            self._log.warning("pull_failed", error=f"{type(error).__name__} {error}")
            await asyncio.sleep(PROBE_WAIT)
            return None
        return message

    async def _settle(self, message: Msg) -> None:
        delivery = _delivery(message)
        with logs.bind(subject=delivery.subject, delivery=delivery.number):
            try:
                await self._answer(message, delivery)
            except (Unavailable, nats.errors.Error) as error:
                self._log.warning("not_acknowledged", error=str(error), then="redelivered after the ack wait")

    async def _answer(self, message: Msg, delivery: Delivery) -> None:
        """Handle, and tell NATS how it went."""
        try:
            decoded = contracts.decode(message.data, self._work.decoder)
            await self._hold(message, self._handle(decoded, delivery))
        except Retryable as error:
            await message.nak(delay=error.delay)
        except Permanent as error:
            await self._bury(message, delivery, str(error))
        except asyncio.CancelledError:
            if self._broker.is_connected:
                await message.nak()
            raise
        except Exception as error:  # noqa: BLE001  a bug in a handler must not end the loop
            self._log.exception("delivery_hit_a_bug")
            await self._met_a_bug(message, delivery, f"bug: {type(error).__name__}: {error}")
        else:
            self._bugs.pop(delivery.sequence, None)
            await message.ack()

    async def _met_a_bug(self, message: Msg, delivery: Delivery, reason: str) -> None:
        """Deliveries alone do not count: a message that is put off is delivered many times."""
        if len(self._bugs) >= MAX_BUGS_REMEMBERED:
            self._bugs.clear()
        self._bugs[delivery.sequence] += 1
        if self._bugs[delivery.sequence] >= BUG_DELIVERIES:
            await self._bury(message, delivery, reason)
            del self._bugs[delivery.sequence]
        else:
            await message.nak(delay=BUG_DELAY)

    async def _handle(self, decoded: M, delivery: Delivery) -> None:
        """Run the handler; while a neighbour is away, wait for it and run it again."""
        for _ in range(MAX_HOLDS):
            try:
                return await self._work.handle(decoded, delivery)
            except Unavailable as error:
                await self._wait_for_neighbour(error)
        raise Retryable("the neighbour answers others but not this", delay=HOLD_DELAY)

    async def _wait_for_neighbour(self, away: Unavailable) -> None:
        """Until it answers again. Of all deliveries that wait for it one says so and asks."""
        if not self._open.is_set():
            await self._open.wait()
            return
        self._log.warning("neighbour_away", neighbour=away.neighbour, error=str(away))
        self._open.clear()
        try:
            await asyncio.sleep(away.delay)
            while not await self._work.probe():
                await asyncio.sleep(PROBE_WAIT)
        finally:
            self._open.set()

    async def _hold(self, message: Msg, work: Awaitable[None]) -> None:
        """Await `work`, renewing the ack wait; if this is cancelled, so is the work."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=self._work.ack_wait / 3))[0]:
                await self._renew(message)
            await task
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def _renew(self, message: Msg) -> None:
        """NATS being away is no reason to end the work: at worst somebody else does it again."""
        try:
            await message.in_progress()
        except nats.errors.Error as error:
            self._log.debug("ack_wait_not_renewed", error=str(error))

    async def _bury(self, message: Msg, delivery: Delivery, reason: str) -> None:
        """Dead letter first, then term: dying between the two leaves two letters, never none."""
        letter = DeadLetter(
            what=self._work.what,
            reason=reason,
            subject=delivery.subject,
            stream=delivery.stream,
            sequence=delivery.sequence,
            deliveries=delivery.number,
            died_at=datetime.now(UTC),
            payload=message.data[:MAX_PAYLOAD_KEPT],
        )
        letter_id = f"{delivery.stream}-{self._work.durable}-{delivery.sequence}"
        await self._broker.publish(subjects.dead_subject(self._work.what), letter, letter_id, delivery.trace)
        self._metrics.dead_letters.labels(self._work.what).inc()
        self._log.error("dead_letter", reason=reason)
        await message.term()


def _is_cancelled() -> bool:
    """Also where the `wait_for` of Python 3.11, deep in a fetch, has swallowed the cancellation."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _delivery(message: Msg) -> Delivery:
    metadata = message.metadata
    return Delivery(
        subject=message.subject,
        stream=metadata.stream,
        sequence=metadata.sequence.stream,
        number=metadata.num_delivered,
        trace=(message.headers or {}).get("traceparent", ""),
    )
