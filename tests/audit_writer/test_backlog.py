"""Decisions that nobody has written yet are counted: those that wait, and those in work."""

from prometheus_client import CollectorRegistry

from services.audit_writer import backlog
from services.audit_writer.metrics import AuditWriterMetrics
from shared import subjects
from shared.broker import Broker
from shared.lifecycle import background
from tests.audit_writer.decisions import decision
from tests.support.road import until


async def test_what_waits_and_what_is_in_work_is_told(broker: Broker) -> None:
    for number in range(1, 4):
        each = decision(number)
        await broker.publish(subjects.decision_subject(each.namespace), each, each.id)
    pull = await broker.jetstream.pull_subscribe_bind(consumer=subjects.AUDIT_WRITER, stream=subjects.EVENTS)
    await pull.fetch(1, timeout=5)  # not acknowledged: somebody is at work on it
    registry = CollectorRegistry()
    metrics = AuditWriterMetrics(registry)

    async def is_told() -> bool:
        return registry.get_sample_value("moorgate_decisions_waiting") == 3

    async with background(backlog.watch(broker, metrics)):
        await until(is_told, "three decisions are told")
