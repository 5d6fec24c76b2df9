"""What a delivery comes to, with an API server in memory that keeps uids and resourceVersions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.audit_writer import folds, recorder
from services.audit_writer.audit import Doubt, Standing, audit_of
from services.audit_writer.folds import Folds
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.recorder import Recorder
from shared.consumer import Delivery
from shared.contracts import Action, AdmissionDecided
from shared.crds import Audit, OwnerReference
from shared.errors import Permanent, Retryable
from tests.audit_writer.decisions import decision, rejected
from tests.audit_writer.in_memory import AuditsInMemory, OwnersSaid

NAME = "replicaset-web-5cd466fccb"
OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web-5cd466fccb", uid="owner-uid")
OWNED, UNOWNED = Standing(name=NAME, owner=OWNER), Standing(name=NAME)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """How folds are paced is the matter of test_folds.py."""
    monkeypatch.setattr(folds, "LINGER", 0.0)
    monkeypatch.setattr(folds, "WRITE_INTERVAL", 0.0)


class Writer:
    """A recorder on one Audit in memory."""

    def __init__(self, standing: Standing) -> None:
        self.audits, self.owners = AuditsInMemory(), OwnersSaid(standing)
        self.registry = CollectorRegistry()
        metrics = AuditWriterMetrics(self.registry)
        self._recorder = Recorder(Folds(self.audits, self.owners, metrics), self.owners, metrics)

    async def record(self, what: AdmissionDecided, number: int = 1) -> Audit | None:
        await self._recorder.record(what, delivery(number))
        return self.audits.one(self.owners.said.name)


def delivery(number: int = 1) -> Delivery:
    return Delivery(subject="s", stream="MOORGATE_EVENTS", sequence=1, number=number, trace="")


def fresh(number: int = 1, **changes: Any) -> AdmissionDecided:
    return decision(number, decided_at=datetime.now(UTC), **changes)


async def test_a_decision_is_written_owned_and_counted_once() -> None:
    writer = Writer(OWNED)
    once = fresh()
    assert await writer.record(once) == audit_of(once, OWNED)
    writes = writer.audits.writes.total()
    assert await writer.record(once, 2) == audit_of(once, OWNED)
    assert writer.audits.writes.total() == writes == 2
    counted = writer.registry.get_sample_value("moorgate_audits_written_total", {"action": "allowed"})
    assert counted == 2
    assert writer.registry.get_sample_value("moorgate_audit_lag_seconds_count") == 1


async def test_a_deferral_is_never_an_audit() -> None:
    writer = Writer(OWNED)
    assert await writer.record(fresh(action=Action.DEFERRED, code=429)) is None


@pytest.mark.parametrize("namespace", ["", "..", "Shop", "a/b", "x" * 64])
async def test_a_text_that_is_no_namespace_is_a_dead_letter(namespace: str) -> None:
    with pytest.raises(Permanent):
        await Writer(OWNED).record(fresh(namespace=namespace))


async def test_a_namespace_that_is_gone_has_nothing_to_record() -> None:
    writer = Writer(OWNED)
    writer.audits.gone = True
    assert await writer.record(fresh()) is None


async def test_the_audit_is_there_while_its_pod_is_awaited() -> None:
    writer = Writer(msgspec.structs.replace(UNOWNED, is_final=False))
    awaited = fresh()
    with pytest.raises(Retryable):
        await writer.record(awaited)
    assert writer.audits.stored
    writer.owners.said = OWNED
    assert await writer.record(awaited, 2) == audit_of(awaited, OWNED)


async def test_a_claim_that_may_still_check_out_is_written_when_that_is_known() -> None:
    doubtful = Standing(name="pod-web", doubt=Doubt("KindNotServed", "not now"), is_final=False)
    writer = Writer(doubtful)
    with pytest.raises(Retryable):
        await writer.record(fresh())
    assert not writer.audits.stored
    late = decision(1, decided_at=datetime.now(UTC) - timedelta(seconds=61))
    assert await writer.record(late) == audit_of(late, doubtful)


async def test_looks_for_an_owner_grow_rarer_and_end() -> None:
    writer = Writer(msgspec.structs.replace(UNOWNED, is_final=False))
    awaited, delays = fresh(), []
    for number in range(1, recorder.OWNER_LOOKS):
        with pytest.raises(Retryable) as raised:
            await writer.record(awaited, number)
        delays.append(raised.value.delay)
    assert delays == [0.5, 1, 2, 4, 8, 16, 16, 16, 16, 16, 16]
    await writer.record(awaited, recorder.OWNER_LOOKS)
    nearly = fresh()
    nearly = msgspec.structs.replace(nearly, decided_at=nearly.decided_at - timedelta(seconds=57))
    with pytest.raises(Retryable) as raised:
        await writer.record(nearly, 8)
    assert raised.value.delay == pytest.approx(3, abs=0.5)


async def test_an_audit_somebody_broke_is_written_anew() -> None:
    writer = Writer(OWNED)
    await writer.record(fresh(1))
    writer.audits.is_readable = False
    mended = rejected(2)
    assert await writer.record(mended) == audit_of(mended, OWNED)
