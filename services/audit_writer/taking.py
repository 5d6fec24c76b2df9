"""How the audit-writer takes decisions from the stream: once what they are written to is there, and the stream itself."""

import asyncio
from collections.abc import Awaitable, Callable

from services.audit_writer.cluster import AuditCluster
from shared import logs, streams, subjects
from shared.broker import Broker
from shared.consumer import Consumer, Delivery, Work
from shared.contracts import ADMISSION_DECIDED, AdmissionDecided
from shared.probes import Readiness
from shared.verdict_store import VerdictMirror

CONCURRENCY = 1000
"""Decisions in work at once: so many of a burst can become one write. They hold some 10 KiB each."""

ACK_WAIT = 30.0
"""Seconds, as shared/streams.py makes the durable."""

LOOK_AGAIN = 1.0
"""Seconds between two looks for an API server that knows Audits."""


def work(
    handle: Callable[[AdmissionDecided, Delivery], Awaitable[None]], probe: Callable[[], Awaitable[bool]]
) -> Work[AdmissionDecided]:
    """What the consumer takes and does."""
    return Work(
        what="decision",
        stream=subjects.EVENTS,
        durable=subjects.AUDIT_WRITER,
        decoder=ADMISSION_DECIDED,
        handle=handle,
        probe=probe,
        concurrency=CONCURRENCY,
        ack_wait=ACK_WAIT,
    )


async def consume(
    broker: Broker, cluster: AuditCluster, consumer: Consumer[AdmissionDecided], readiness: Readiness
) -> None:
    """Take decisions once the API server knows Audits and the stream is there. Raises `BadSetting`."""
    while not await cluster.answers():
        await cluster.check_scope()
        logs.logger("audit-writer").warning("audits_not_served", mend="is the API server up, the CRD there?")
        await asyncio.sleep(LOOK_AGAIN)
    readiness.done("audits")
    await streams.wait_for_streams(broker, subjects.EVENTS)
    readiness.done("streams")
    await consumer.run()


async def complete(
    broker: Broker, mirror: VerdictMirror, consumer: Consumer[AdmissionDecided], readiness: Readiness
) -> None:
    """Take decisions once the stream is there, and the verdicts by which their records are completed."""
    await streams.wait_for_streams(broker, subjects.EVENTS)
    for each in mirror.mirrors:
        await each.ready.wait()
    readiness.done("streams")
    await consumer.run()
