"""What a delivery comes to, with an API server in memory that keeps uids and resourceVersions."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.audit_writer import recorder
from services.audit_writer.audit import Doubt, Standing, audit_of, written_part
from services.audit_writer.cluster import AuditCluster, NamespaceGone, StoredAudit
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.owners import Owners
from services.audit_writer.recorder import Recorder
from shared.consumer import Delivery
from shared.contracts import Action, AdmissionDecided
from shared.crds import Audit, OwnerReference
from shared.errors import Conflict, Permanent, Retryable
from tests.audit_writer.decisions import decision, rejected

NAME = "replicaset-web-5cd466fccb"
OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web-5cd466fccb", uid="owner-uid")
OWNED, UNOWNED = Standing(name=NAME, owner=OWNER), Standing(name=NAME)


class AuditsInMemory(AuditCluster):
    """One Audit, by the API server's rules for create and guarded apply."""

    def __init__(self) -> None:
        self.stored: Audit | None = None
        self.is_readable = True
        self.gone = False
        self.conflicts = 0
        self.writes = 0

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        assert namespace == "shop"
        if self.stored is None or self.stored.metadata.name != name:
            return None
        return self._as_read(self.stored)

    async def create(self, audit: Audit) -> StoredAudit:
        if self.gone:
            raise NamespaceGone("namespaces shop not found")
        assert audit.metadata.owner_references == ()
        return self._write(audit, "audit-uid")

    async def apply(self, audit: Audit) -> StoredAudit:
        assert self.stored
        if self.conflicts or audit.metadata.resource_version != self.stored.metadata.resource_version:
            self.conflicts -= 1
            raise Conflict("somebody was faster")
        return self._write(audit, audit.metadata.uid)

    def _write(self, audit: Audit, uid: str | None) -> StoredAudit:
        self.writes += 1
        metadata = msgspec.structs.replace(audit.metadata, uid=uid, resource_version=str(self.writes))
        self.stored = msgspec.structs.replace(audit, metadata=metadata)
        return self._as_read(self.stored)

    def _as_read(self, audit: Audit) -> StoredAudit:
        return StoredAudit(audit.metadata, audit if self.is_readable else None)


class OwnersSaid(Owners):
    """Says what the test wants."""

    def __init__(self, standing: Standing) -> None:
        self.said = standing

    async def standing(self, decision: AdmissionDecided) -> Standing:
        assert decision.action is not Action.DEFERRED
        return self.said


class Writer:
    """A recorder on one Audit in memory."""

    def __init__(self, standing: Standing) -> None:
        self.audits, self.owners = AuditsInMemory(), OwnersSaid(standing)
        self.registry = CollectorRegistry()
        self._recorder = Recorder(self.audits, self.owners, AuditWriterMetrics(self.registry))

    async def record(self, what: AdmissionDecided, number: int = 1) -> Audit | None:
        await self._recorder.record(what, delivery(number))
        return written_part(self.audits.stored) if self.audits.stored else None


def delivery(number: int = 1) -> Delivery:
    return Delivery(subject="s", stream="MOORGATE_EVENTS", sequence=1, number=number, trace="")


def fresh(number: int = 1, **changes: Any) -> AdmissionDecided:
    return decision(number, decided_at=datetime.now(UTC), **changes)


async def test_a_decision_is_written_owned_and_counted_once() -> None:
    writer = Writer(OWNED)
    once = fresh()
    assert await writer.record(once) == audit_of(once, OWNED)
    writes = writer.audits.writes
    assert await writer.record(once, 2) == audit_of(once, OWNED)
    assert writer.audits.writes == writes == 2
    counted = writer.registry.get_sample_value("moorgate_audits_written_total", {"action": "allowed"})
    assert counted == 2


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
    assert writer.audits.stored is None
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


async def test_conflicts_are_folded_again_and_end_in_another_delivery() -> None:
    writer = Writer(OWNED)
    await writer.record(fresh(1))
    writer.audits.conflicts = 3
    folded = await writer.record(fresh(2))
    assert folded
    assert folded.status.decision.id == decision(2).id
    writer.audits.conflicts = 100
    with pytest.raises(Retryable):
        await writer.record(fresh(3))


async def test_an_owner_taken_away_is_looked_at_again() -> None:
    writer = Writer(OWNED)
    await writer.record(fresh(1))
    writer.owners.said = Standing(name=NAME, owner=msgspec.structs.replace(OWNER, uid="new-uid"))
    anew = fresh(2)
    with pytest.raises(Retryable) as raised:
        await writer.record(anew)
    assert raised.value.delay == recorder.SECOND_LOOK
    writer.audits.stored = None  # the collector took it
    assert await writer.record(anew, 2) == audit_of(anew, writer.owners.said)


async def test_an_audit_being_deleted_is_waited_for_but_not_for_ever() -> None:
    writer = Writer(OWNED)
    await writer.record(fresh(1))
    assert writer.audits.stored
    dying = msgspec.structs.replace(writer.audits.stored.metadata, deletion_timestamp=datetime.now(UTC))
    writer.audits.stored = msgspec.structs.replace(writer.audits.stored, metadata=dying)
    with pytest.raises(Retryable):
        await writer.record(fresh(2))
    await writer.record(rejected(3, decided_at=datetime.now(UTC) - timedelta(seconds=61)))


async def test_an_audit_somebody_broke_is_written_anew() -> None:
    writer = Writer(OWNED)
    await writer.record(fresh(1))
    writer.audits.is_readable = False
    mended = rejected(2)
    assert await writer.record(mended) == audit_of(mended, OWNED)


async def test_locks_do_not_pile_up() -> None:
    writer = Writer(OWNED)
    await asyncio.gather(*(writer.record(fresh(number)) for number in range(20)))
    assert not writer._recorder._locks._locks
    assert writer.audits.stored
    assert writer.audits.stored.status.transitions
