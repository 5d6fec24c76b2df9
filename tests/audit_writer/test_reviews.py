"""The order in which a flip is told and written, and what remains of it when somebody dies in between."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.audit_writer import reviews
from services.audit_writer.cluster import AuditCluster, StoredAudit
from services.audit_writer.events import Events
from services.audit_writer.folds import Folds
from services.audit_writer.judgements import WorkloadId
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.outlook import UNDER_WAY, Outlook
from services.audit_writer.rescans import Rescans
from services.audit_writer.reviews import Reviews
from services.audit_writer.running import Running
from services.audit_writer.turns import Flip
from shared.broker import Broker
from shared.contracts import Outcome, Result, TenantRecord, VerdictFlipped
from shared.crds import Audit, AuditState
from shared.errors import Unavailable
from shared.image_policies import PolicyFeed
from shared.verdict_store import VerdictMirror
from shared.verdicts import StoredVerdict
from shared.whitelist import Whitelist
from tests.audit_writer.decisions import DIGEST, image
from tests.audit_writer.seen import DEFAULTS, HASH, audit, judgement, snapshot, tenant, verdict, workload
from tests.support.virtual_time import virtually

KEY = judgement().key
LATER = {"known_until": verdict().verdict.known_until.replace(year=2999)}


class _Entries:
    """What `BucketMirror` is to the one who listens."""

    def __init__(self) -> None:
        self.calls: list[Callable[[str | None], None]] = []

    def on_change(self, call: Callable[[str | None], None]) -> None:
        self.calls.append(call)

    def __iter__(self) -> Any:
        return iter(("default",))


class World:
    """Audits, verdicts and NATS, with faults that a test puts in; `did` tells in which order."""

    source = "tests"

    def __init__(self, *names: str, outcome: Outcome = Outcome.PASS) -> None:
        self.did: list[str] = []
        self.faults: set[str] = set()
        self.events: list[VerdictFlipped] = []
        self.reads = 0
        self.hurried = 0
        self.awaited: dict[str, Any] = {}
        self.stored: dict[str, StoredVerdict] = {}
        self.verdicts, self.tenants = _Entries(), _Entries()
        self.running = Running()
        self.audits: dict[WorkloadId, Audit] = {}
        known = audit(images=(image(outcome=outcome, bundle_hash=HASH, list_digest=DIGEST),))
        for name in names:
            found = workload(name)
            metadata = msgspec.structs.replace(known.metadata, name=found.audit)
            self.audits["shop", found.audit] = msgspec.structs.replace(known, metadata=metadata)
        self.running.snapshot = snapshot(*(workload(name) for name in names))

    def reviews(self) -> Reviews:
        mirror = cast(VerdictMirror, self)
        self.outlook = Outlook(self.running, mirror, PolicyFeed(DEFAULTS), Whitelist(cluster_wide=True))
        self.outlook.refresh()
        return Reviews(
            outlook=self.outlook,
            rescans=cast(Rescans, self),
            cluster=cast(AuditCluster, self),
            folds=cast(Folds, self),
            events=cast(Events, self),
            broker=cast(Broker, self),
            metrics=AuditWriterMetrics(CollectorRegistry()),
            hurry=self.hurry,
        )

    async def reviewed(self, some: Reviews | None = None, seconds: float = 1) -> None:
        task = asyncio.create_task((some or self.reviews()).run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def judge(self, found: StoredVerdict) -> None:
        self.stored[KEY] = found
        for call in self.verdicts.calls:
            call(KEY)

    @property
    def states(self) -> set[AuditState]:
        return {each.status.state for each in self.audits.values()}

    # What the neighbours are to the one who reviews.

    def verdict(self, key: str) -> StoredVerdict | None:
        return self.stored.get(key)

    def tenant(self, _: str) -> TenantRecord | None:
        return tenant()

    def await_verdicts(self, awaited: dict[str, Any]) -> None:
        self.awaited = awaited

    def await_also(self, awaited: dict[str, Any]) -> None:
        self.awaited |= awaited

    def hurry(self) -> None:
        self.hurried += 1

    async def all(self) -> AsyncIterator[Audit]:
        for each in list(self.audits.values()):
            yield each

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        self.reads += 1
        found = self.audits.get((namespace, name))
        return StoredAudit(found.metadata, found) if found else None

    async def publish(self, subject: str, event: VerdictFlipped, message_id: str) -> None:
        assert subject == f"moorgate.v1.event.verdict.{event.result}"
        assert message_id == event.id
        self._fail("publish")
        self.events.append(event)

    async def tell(self, _flip: Flip, _identity: str, found: Any) -> None:
        self._fail(f"event {found.owner.name}")

    async def change(self, namespace: str, name: str, change: Callable[[Audit], Audit | None]) -> bool:
        self._fail(f"write {name}")
        after = change(self.audits[namespace, name])
        if after is not None:
            self.audits[namespace, name] = after
        return after is not None

    def _fail(self, what: str) -> None:
        if what in self.faults:
            raise Unavailable("somebody", what)
        self.did.append(what)


def failing(**changes: Any) -> StoredVerdict:
    return verdict(**{**LATER, **changes})


def landed(result: Result) -> StoredVerdict:
    return (
        failing() if result is Result.FAIL else verdict(result, reasons=(), known_until=LATER["known_until"])
    )


@virtually
async def test_the_event_once_a_release_then_kubernetes_events_then_the_audits() -> None:
    world = World("a", "b")
    world.judge(failing())
    await world.reviewed()
    assert world.did == ["publish", "event a", "event b", "write replicaset-a", "write replicaset-b"]
    [event] = world.events
    assert [each.name for each in event.workloads] == ["a", "b"]
    assert world.states == {AuditState.DEGRADED}


@virtually
async def test_what_dies_before_the_audits_are_written_is_repeated_with_the_same_id() -> None:
    world = World("a", "b")
    world.judge(failing())
    world.faults = {"write replicaset-a", "write replicaset-b"}
    await world.reviewed()
    world.faults = set()
    await world.reviewed()  # the next leader
    assert len(world.events) == 2
    assert len({each.id for each in world.events}) == 1
    assert world.states == {AuditState.DEGRADED}


@virtually
async def test_what_dies_between_two_audits_is_not_told_again() -> None:
    world = World("a", "b")
    world.judge(failing())
    world.faults = {"write replicaset-b"}
    await world.reviewed()
    assert world.states == {AuditState.DEGRADED, AuditState.ADMITTED}
    world.faults = set()
    await world.reviewed()
    assert len(world.events) == 1
    assert world.states == {AuditState.DEGRADED}


@virtually
async def test_what_failed_is_tried_again_by_itself() -> None:
    world = World("a")
    some = world.reviews()
    world.judge(failing())
    world.faults = {"publish"}
    task = asyncio.create_task(some.run())
    await asyncio.sleep(1)
    assert world.states == {AuditState.ADMITTED}
    assert world.did == [], "an Audit was written whose flip nobody was told of"
    world.faults = set()
    await asyncio.sleep(reviews.RETRY + 1)
    assert world.states == {AuditState.DEGRADED}
    assert len(world.events) == 1
    task.cancel()


@virtually
async def test_a_verdict_that_turns_between_two_inventories_counts_at_once() -> None:
    world = World("a", "b")
    some = world.reviews()
    task = asyncio.create_task(some.run())
    await asyncio.sleep(1)
    assert world.did == []
    world.judge(failing())
    await asyncio.sleep(1)
    assert world.states == {AuditState.DEGRADED}
    reads = world.reads
    world.judge(failing(revision=99))  # scanned again, and nothing new
    await asyncio.sleep(1)
    assert world.reads == reads
    world.judge(verdict(Result.PASS, after=900, revision=100, **LATER))
    await asyncio.sleep(1)
    assert world.states == {AuditState.ADMITTED}
    assert [each.result for each in world.events] == [Result.FAIL, Result.PASS]
    task.cancel()


class Unseen(World):
    """One Audit without a verdict, decided just now, of what the last inventory did not find."""

    AUDIT = ("shop", "replicaset-a")

    def __init__(self, outcome: Outcome = Outcome.PENDING) -> None:
        super().__init__("a", outcome=outcome)
        decided = self.audits[self.AUDIT]
        mark = msgspec.structs.replace(decided.status.decision, at=datetime.now(UTC))
        status = msgspec.structs.replace(decided.status, decision=mark)
        self.audit_before = msgspec.structs.replace(decided, status=status)
        self.audits[self.AUDIT] = self.audit_before
        self.take_inventory(after=UNDER_WAY + timedelta(seconds=1))

    @property
    def recorded(self) -> str:
        return self.audits[self.AUDIT].spec.images[0].verdict

    def take_inventory(self, *names: str, after: timedelta = timedelta()) -> None:
        """One that was begun so long after the decision."""
        at = self.audit_before.status.decision.at + after
        found = snapshot(*(workload(name) for name in names))
        self.running.replace(msgspec.structs.replace(found, taken_at=at))


@virtually
async def test_of_what_does_not_run_the_missing_verdict_is_awaited_and_recorded() -> None:
    world = Unseen()
    task = asyncio.create_task(world.reviews().run())
    await asyncio.sleep(1)
    assert set(world.awaited) == {KEY}
    world.judge(failing())
    await asyncio.sleep(1)
    assert world.recorded == "fail"
    assert world.did == ["write replicaset-a"]
    task.cancel()


@pytest.mark.parametrize("result", [Result.PASS, Result.FAIL])
@pytest.mark.parametrize("is_first", [True, False], ids=["the Audit first", "the verdict first"])
def test_what_is_recorded_between_two_inventories_is_completed_when_its_verdict_lands(
    result: Result, *, is_first: bool
) -> None:
    @virtually
    async def scene() -> None:
        world = Unseen()
        world.audits = {}
        some = world.reviews()
        task = asyncio.create_task(some.run())
        await asyncio.sleep(1)
        if not is_first:
            world.judge(landed(result))
        world.audits[world.AUDIT] = world.audit_before
        some.put(world.audit_before)
        await asyncio.sleep(1)
        if is_first:
            assert set(world.awaited) == {KEY}
            assert world.did == []
            world.judge(landed(result))
        await asyncio.sleep(1)
        assert world.recorded == result.value
        task.cancel()

    scene()


@virtually
async def test_a_fail_of_what_may_run_by_now_waits_for_an_inventory_which_is_asked_for() -> None:
    """Completed before, it would be on record, and nobody would ever be told."""
    world = Unseen()
    world.take_inventory()
    some = world.reviews()
    task = asyncio.create_task(some.run())
    world.judge(failing())
    await asyncio.sleep(1)
    assert (world.did, world.recorded) == ([], "pending")
    assert world.hurried > 0
    world.take_inventory("a", after=UNDER_WAY)
    world.outlook.refresh()
    await asyncio.sleep(1)
    assert world.did == ["publish", "event a", "write replicaset-a"]
    assert (world.states, world.recorded) == ({AuditState.DEGRADED}, "fail")
    task.cancel()


@virtually
async def test_without_any_inventory_a_fail_waits_too() -> None:
    world = Unseen()
    world.running.replace(None)
    world.judge(failing())
    await world.reviewed()
    assert (world.did, world.recorded) == ([], "pending")


@virtually
async def test_a_pass_waits_for_no_inventory() -> None:
    world = Unseen()
    world.take_inventory()
    world.judge(landed(Result.PASS))
    await world.reviewed()
    assert (world.did, world.recorded, world.hurried) == (["write replicaset-a"], "pass", 0)


@virtually
async def test_an_audit_that_is_gone_is_awaited_no_more() -> None:
    world = Unseen()
    some = world.reviews()
    task = asyncio.create_task(some.run())
    await asyncio.sleep(1)
    some.remove(world.audits.pop(world.AUDIT))
    reads = world.reads
    world.judge(failing())
    await asyncio.sleep(1)
    assert (world.did, world.reads) == ([], reads)
    task.cancel()
