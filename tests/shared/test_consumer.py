"""The one loop that takes deliveries, on a real server: what each ending of a handler means to the message."""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig
from prometheus_client import CollectorRegistry

from shared import consumer, contracts, streams
from shared.broker import Broker
from shared.consumer import Consumer, Delivery, Work
from shared.contracts import DeadLetter, ScanRequest
from shared.errors import BadImage, Permanent, Retryable, Unavailable
from shared.metrics import CommonMetrics
from shared.subjects import Lane
from tests.support.builders import START

Handler = Callable[[ScanRequest, Delivery], Awaitable[None]]
ACK_WAIT = 30.0
"""Seconds: where a delivery comes again, it is because somebody said so."""

SHORT_ACK_WAIT = 1.0
"""Seconds: for what comes again because nobody said anything."""

NUMBERS = itertools.count()


def request(image: str) -> ScanRequest:
    return ScanRequest(tenant="default", image=image, bundle_id="b", asked_at=START)


class Queue:
    """A work queue of its own with one durable, and what its handler saw."""

    def __init__(self, broker: Broker, name: str, ack_wait: float) -> None:
        self.broker = broker
        self.name = name
        self.ack_wait = ack_wait
        self.seen: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.metrics = CommonMetrics(CollectorRegistry())

    async def put(self, image: str) -> None:
        await self.put_bytes(contracts.encode(request(image)))

    async def put_bytes(self, payload: bytes) -> None:
        await self.broker.jetstream.publish(f"{self.name}.{next(NUMBERS)}", payload)

    @asynccontextmanager
    async def consuming(
        self,
        handle: Handler,
        *,
        probe: Callable[[], Awaitable[bool]] | None = None,
        concurrency: int = 1,
    ) -> AsyncIterator["asyncio.Task[None]"]:
        """Run a consumer while the block lasts."""

        async def noted(message: ScanRequest, delivery: Delivery) -> None:
            self.seen.put_nowait((message.image, delivery.number))
            await handle(message, delivery)

        async def answers() -> bool:
            return True

        work = Work(
            what=self.name,
            stream=self.name,
            durable="worker",
            decoder=contracts.SCAN_REQUEST,
            handle=noted,
            probe=probe or answers,
            concurrency=concurrency,
            ack_wait=self.ack_wait,
        )
        task = asyncio.create_task(Consumer(self.broker, self.metrics, work).run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def next(self, within: float = 5) -> tuple[str, int]:
        """The next delivery that reaches the handler: image and delivery number."""
        return await asyncio.wait_for(self.seen.get(), within)

    async def left(self) -> int:
        """Messages in the queue: an acknowledged or ended one is gone from it."""
        info = await self.broker.jetstream.stream_info(self.name)
        return int(info.state.messages)

    async def until_empty(self) -> None:
        """An acknowledgement is a message of its own: the next request of this connection comes after it."""
        async with asyncio.timeout(5):
            while await self.left():
                await self.broker.client.flush()

    async def dead_letter(self) -> DeadLetter:
        """The letter this queue sent; raises when there is none."""
        subject = f"moorgate.v1.dead.{self.name}"
        async with asyncio.timeout(5):
            subscription = await self.broker.jetstream.subscribe(subject, ordered_consumer=True)
            message = await subscription.next_msg(5)
            await subscription.unsubscribe()
        return contracts.decode(message.data, contracts.DEAD_LETTER)


@pytest.fixture
async def queue(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(consumer, "BUG_DELAY", 0.05)
    monkeypatch.setattr(consumer, "PROBE_WAIT", 0.02)
    return await _made(broker, ACK_WAIT)


@pytest.fixture
async def hasty_queue(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setattr(consumer, "PROBE_WAIT", 0.02)
    return await _made(broker, SHORT_ACK_WAIT)


async def _made(broker: Broker, ack_wait: float) -> Queue:
    name = f"Q{secrets.token_hex(4)}"
    work_queue = StreamConfig(name=name, subjects=[f"{name}.*"], retention=RetentionPolicy.WORK_QUEUE)
    await broker.jetstream.add_stream(work_queue)
    durable = ConsumerConfig(
        durable_name="worker", ack_policy=AckPolicy.EXPLICIT, ack_wait=ack_wait, max_deliver=-1
    )
    await broker.jetstream.add_consumer(name, durable)
    return Queue(broker, name, ack_wait)


def raising(error: Exception, when: str = "bad") -> Handler:
    async def handle(message: ScanRequest, _: Delivery) -> None:
        if message.image == when:
            raise error

    return handle


async def nothing(_: ScanRequest, __: Delivery) -> None:
    pass


async def test_a_return_acknowledges(queue: Queue) -> None:
    await queue.put("one")
    await queue.put("two")
    async with queue.consuming(nothing):
        assert [await queue.next(), await queue.next()] == [("one", 1), ("two", 1)]
        await queue.until_empty()


async def test_a_delivery_knows_where_it_comes_from(queue: Queue) -> None:
    seen: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()

    async def handle(_: ScanRequest, delivery: Delivery) -> None:
        seen.set_result(delivery)

    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    payload = contracts.encode(request("one"))
    await queue.broker.jetstream.publish(f"{queue.name}.x", payload, headers={"traceparent": trace})
    async with queue.consuming(handle):
        found = await asyncio.wait_for(seen, 5)
    assert found == Delivery(subject=f"{queue.name}.x", stream=queue.name, sequence=1, number=1, trace=trace)


async def test_retryable_comes_again_after_its_delay_and_others_go_on(queue: Queue) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handle(message: ScanRequest, delivery: Delivery) -> None:
        if message.image == "later":
            times.append(loop.time())
            if delivery.number == 1:
                raise Retryable("not yet", delay=0.3)

    await queue.put("later")
    await queue.put("next")
    async with queue.consuming(handle):
        assert [await queue.next() for _ in range(3)] == [("later", 1), ("next", 1), ("later", 2)]
        await queue.until_empty()
    assert 0.29 <= times[1] - times[0] < ACK_WAIT / 2


@pytest.mark.parametrize("payload", [b"", b"{", b'{"type":"moorgate.v2.scan-request"}', b"\xff"])
async def test_what_cannot_be_read_becomes_a_dead_letter_and_the_queue_goes_on(
    queue: Queue, payload: bytes
) -> None:
    await queue.put_bytes(payload)
    await queue.put("good")
    async with queue.consuming(nothing):
        assert await queue.next() == ("good", 1)
        await queue.until_empty()
    letter = await queue.dead_letter()
    assert (letter.payload, letter.stream, letter.sequence, letter.deliveries) == (payload, queue.name, 1, 1)
    assert "undecodable" in letter.reason
    assert queue.metrics.dead_letters.labels(queue.name)._value.get() == 1


async def test_permanent_is_a_dead_letter_with_its_reason(queue: Queue) -> None:
    await queue.put("bad")
    await queue.put("good")
    async with queue.consuming(raising(Permanent("no repetition helps"))):
        assert [await queue.next(), await queue.next()] == [("bad", 1), ("good", 1)]
        await queue.until_empty()
    letter = await queue.dead_letter()
    assert (letter.what, letter.reason) == (queue.name, "no repetition helps")
    assert contracts.decode(letter.payload, contracts.SCAN_REQUEST) == request("bad")


async def test_a_dead_letter_that_cannot_be_stored_keeps_the_message(
    hasty_queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise Unavailable("nats", "disk full")

    await hasty_queue.put("bad")
    with monkeypatch.context() as patched:
        patched.setattr(hasty_queue.broker, "publish", refuse)
        async with hasty_queue.consuming(raising(Permanent("x"))):
            assert await hasty_queue.next() == ("bad", 1)
            assert await hasty_queue.next() == ("bad", 2), "comes again after the ack wait"
    assert await hasty_queue.left() == 1


@pytest.mark.parametrize("bug", [ValueError("oops"), BadImage("an error nobody expected here")])
async def test_a_bug_is_tried_again_and_given_up_in_the_end(queue: Queue, bug: Exception) -> None:
    await queue.put("bad")
    async with queue.consuming(raising(bug)):
        numbers = [(await queue.next())[1] for _ in range(consumer.BUG_DELIVERIES)]
        await queue.until_empty()
        await queue.put("good")
        assert await queue.next() == ("good", 1)
    assert numbers == [1, 2, 3, 4, 5]
    letter = await queue.dead_letter()
    assert letter.reason == f"bug: {type(bug).__name__}: {bug}"
    assert letter.deliveries == 5


async def test_a_neighbour_that_is_away_costs_no_delivery_and_stops_the_pull(hasty_queue: Queue) -> None:
    is_back, asked = asyncio.Event(), asyncio.Event()

    async def handle(message: ScanRequest, _: Delivery) -> None:
        if message.image == "first" and not is_back.is_set():
            raise Unavailable("anchore", "connection refused", delay=0)

    async def probe() -> bool:
        asked.set()
        return is_back.is_set()

    await hasty_queue.put("first")
    async with hasty_queue.consuming(handle, probe=probe):
        assert await hasty_queue.next() == ("first", 1)
        await hasty_queue.put("second")
        for _ in range(int(2 * SHORT_ACK_WAIT / consumer.PROBE_WAIT)):  # longer than the ack wait
            asked.clear()
            await asyncio.wait_for(asked.wait(), 5)
        assert hasty_queue.seen.empty(), "neither redelivered nor was another one taken"
        is_back.set()
        assert [await hasty_queue.next(), await hasty_queue.next()] == [("first", 1), ("second", 1)]
        await hasty_queue.until_empty()


async def test_while_a_neighbour_is_away_the_other_workers_take_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "FETCH_TIMEOUT", 0.1)
    is_back, asked = asyncio.Event(), asyncio.Event()

    async def handle(_: ScanRequest, __: Delivery) -> None:
        if not is_back.is_set():
            raise Unavailable("anchore", "connection refused", delay=0)

    async def probe() -> bool:
        asked.set()
        return is_back.is_set()

    async def probed(seconds: float) -> None:
        for _ in range(int(seconds / consumer.PROBE_WAIT)):
            asked.clear()
            await asyncio.wait_for(asked.wait(), 5)

    await queue.put("first")
    async with queue.consuming(handle, probe=probe, concurrency=3):
        assert await queue.next() == ("first", 1)
        await probed(3 * consumer.FETCH_TIMEOUT)  # the pulls that were under way have ended
        for image in ("second", "third"):
            await queue.put(image)
        await probed(0.5)
        assert queue.seen.empty()
        is_back.set()
        assert {(await queue.next())[0] for _ in range(3)} == {"first", "second", "third"}
        await queue.until_empty()


async def test_of_all_deliveries_that_wait_for_a_neighbour_one_asks(queue: Queue) -> None:
    is_back, all_wait, probes = asyncio.Event(), asyncio.Event(), 0

    async def handle(_: ScanRequest, __: Delivery) -> None:
        if not is_back.is_set():
            if queue.seen.qsize() == 5:
                all_wait.set()
            raise Unavailable("anchore", "connection refused", delay=0)

    async def probe() -> bool:
        nonlocal probes
        probes += 1
        await is_back.wait()
        return True

    for number in range(5):
        await queue.put(f"image-{number}")
    async with queue.consuming(handle, probe=probe, concurrency=5):
        await asyncio.wait_for(all_wait.wait(), 10)
        is_back.set()
        await queue.until_empty()
    assert probes == 1


async def test_a_delivery_that_keeps_its_neighbour_away_is_given_back(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "HOLD_DELAY", 0.1)

    async def handle(message: ScanRequest, delivery: Delivery) -> None:
        if message.image == "cause" and delivery.number == 1:
            raise Unavailable("anchore", "502 for this image alone", delay=0)

    await queue.put("cause")
    await queue.put("other")
    async with queue.consuming(handle):
        tries = [await queue.next() for _ in range(consumer.MAX_HOLDS)]
        assert tries == [("cause", 1)] * consumer.MAX_HOLDS
        assert [await queue.next(), await queue.next()] == [("other", 1), ("cause", 2)]
        await queue.until_empty()


async def test_long_work_is_renewed_beyond_the_ack_wait(hasty_queue: Queue) -> None:
    release = asyncio.Event()

    async def handle(message: ScanRequest, _: Delivery) -> None:
        if message.image == "long":
            await release.wait()

    await hasty_queue.put("long")
    async with hasty_queue.consuming(handle, concurrency=2):
        assert await hasty_queue.next() == ("long", 1)
        asyncio.get_running_loop().call_later(3 * SHORT_ACK_WAIT, release.set)
        await release.wait()
        await hasty_queue.until_empty()
    assert hasty_queue.seen.empty(), "redelivered although it was being worked on"


async def test_a_stop_leaves_the_delivery_to_another_worker(queue: Queue) -> None:
    cancelled = asyncio.Event()

    async def handle(_: ScanRequest, delivery: Delivery) -> None:
        if delivery.number == 1:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    await queue.put("one")
    async with queue.consuming(handle):
        assert await queue.next() == ("one", 1)
    assert cancelled.is_set(), "the work ends with the consumer"
    assert await queue.left() == 1
    async with queue.consuming(handle):
        assert await queue.next() == ("one", 2)
        await queue.until_empty()


class _Deaf:
    """A subscription whose fetch swallows the cancellation, as Python 3.11's `wait_for` does now and then."""

    async def fetch(self, *_: object, **__: object) -> list[object]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return []


async def test_a_stop_ends_the_loop_although_the_fetch_swallows_it(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()

    async def bind(**_: object) -> _Deaf:
        began.set()
        return _Deaf()

    monkeypatch.setattr(queue.broker.jetstream, "pull_subscribe_bind", bind)
    async with asyncio.timeout(5), queue.consuming(nothing) as task:
        await began.wait()
        await asyncio.wait({task}, timeout=0.05)


async def test_a_worker_waits_for_a_durable_that_is_not_there_yet(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "FETCH_TIMEOUT", 0.2)
    await queue.broker.jetstream.delete_consumer(queue.name, "worker")
    await queue.put("one")
    async with queue.consuming(nothing) as task:
        with pytest.raises(TimeoutError):
            await queue.next(0.3)
        assert not task.done()
        durable = ConsumerConfig(durable_name="worker", ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT)
        await queue.broker.jetstream.add_consumer(queue.name, durable)
        assert await queue.next() == ("one", 1)


async def test_several_workers_take_side_by_side(queue: Queue) -> None:
    together = asyncio.Barrier(3)

    async def handle(_: ScanRequest, __: Delivery) -> None:
        async with asyncio.timeout(5):
            await together.wait()

    for image in ("one", "two", "three"):
        await queue.put(image)
    async with queue.consuming(handle, concurrency=3):
        assert {(await queue.next())[0] for _ in range(3)} == {"one", "two", "three"}
        await queue.until_empty()


def test_a_large_message_fits_its_dead_letter() -> None:
    payload = b"\xff" * contracts.MAX_MESSAGE_BYTES
    sample: dict[str, Any] = {"what": "scan", "reason": "x" * 10_000, "subject": "s" * 200, "stream": "S"}
    letter = DeadLetter(
        **sample, sequence=1, deliveries=1, died_at=START, payload=payload[: consumer.MAX_PAYLOAD_KEPT]
    )
    assert len(contracts.encode(letter)) <= contracts.MAX_MESSAGE_BYTES
    assert msgspec.json.decode(contracts.encode(letter))["type"] == "moorgate.v1.dead-letter"


async def test_the_lanes_bear_what_consumers_expect() -> None:
    lane = streams.lane_consumer(Lane.ADMISSION, "default")
    assert (lane.ack_wait, lane.max_deliver, lane.max_ack_pending) == (streams.ACK_WAIT, -1, 100_000)
    assert issubclass(nats.errors.TimeoutError, TimeoutError), "an empty fetch is told by this"
