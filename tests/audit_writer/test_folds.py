"""How many decisions become one write, and what becomes of those that wait for it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.audit_writer import folds
from services.audit_writer.audit import Standing, audit_of, merge
from services.audit_writer.cluster import NamespaceGone
from services.audit_writer.folds import Folds
from services.audit_writer.metrics import AuditWriterMetrics
from shared.crds import Audit, AuditState, OwnerReference
from shared.errors import Permanent, Retryable, Unavailable
from tests.audit_writer.decisions import START, decision, image, rejected
from tests.audit_writer.in_memory import AuditsInMemory, OwnersSaid
from tests.support.virtual_time import virtually

NAME = "replicaset-web"
OWNER = OwnerReference(api_version="apps/v1", kind="ReplicaSet", name="web", uid="owner-uid")
OWNED = Standing(name=NAME, owner=OWNER)
ANEW = Standing(name=NAME, owner=msgspec.structs.replace(OWNER, uid="new-uid"))


class Folding:
    """Folds into Audits in memory."""

    def __init__(self) -> None:
        self.audits, self.owners = AuditsInMemory(), OwnersSaid(OWNED)
        self.folds = Folds(self.audits, self.owners, AuditWriterMetrics(CollectorRegistry()))

    async def all(self, audits: Sequence[Audit]) -> list[bool | BaseException]:
        """Fold all at once; what each one got."""
        return await asyncio.gather(*(self.folds.fold(each) for each in audits), return_exceptions=True)

    @property
    def stored(self) -> Audit | None:
        return self.audits.one(NAME)


@virtually
async def test_a_burst_of_one_workload_is_one_create_and_one_apply() -> None:
    folding = Folding()
    burst = [audit_of(decision(number), OWNED) for number in range(1000)]
    assert await folding.all(burst) == [True] * 1000
    assert folding.audits.writes[NAME] == 2
    assert folding.stored
    assert folding.stored.status.decision.id == decision(999).id


@virtually
async def test_nobody_returns_before_his_part_is_written() -> None:
    folding = Folding()
    first = asyncio.create_task(folding.folds.fold(audit_of(decision(1), OWNED)))
    await asyncio.sleep(folds.LINGER / 2)
    second = asyncio.create_task(folding.folds.fold(audit_of(rejected(2), OWNED)))
    await asyncio.sleep(folds.LINGER / 4)
    assert not any(each.done() for each in (first, second))
    assert folding.audits.writes.total() == 0
    await asyncio.gather(first, second)
    assert folding.stored
    assert len(folding.stored.status.transitions) == 2


@virtually
async def test_one_audit_is_written_once_a_second_and_others_do_not_wait_for_it() -> None:
    folding = Folding()
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def flood(name: str) -> None:
        flooding = []
        for number in range(100):  # each with images of its own: every one of them is news
            judged = decision(number, images=(image(f"app:{number}"),))
            each = asyncio.create_task(folding.folds.fold(audit_of(judged, Standing(name=name))))
            flooding.append(each)
            await asyncio.sleep(0.05)
        await asyncio.gather(*flooding)

    await asyncio.gather(flood("pod-a"), flood("pod-b"))
    for name in ("pod-a", "pod-b"):
        times = [at for written, at in folding.audits.written_at if written == name]
        assert times[0] - begun == pytest.approx(folds.LINGER)
        pauses = [later - at for at, later in pairwise(times)]
        assert min(pauses) >= folds.WRITE_INTERVAL - 1e-6, pauses
        assert 5 <= len(times) <= 7


@virtually
async def test_what_the_audit_says_already_is_not_written_for_ten_minutes() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(1, after=0), OWNED))
    for number in range(2, 60):
        again = decision(number, after=10.0 * number, images=(image(evaluated_at=datetime.now(UTC)),))
        assert await folding.folds.fold(audit_of(again, OWNED)) is False
    assert folding.audits.writes[NAME] == 2
    assert await folding.folds.fold(audit_of(decision(60, after=600), OWNED)) is True
    assert folding.audits.writes[NAME] == 3
    assert folding.stored
    assert folding.stored.status.decision.id == decision(60).id


@virtually
async def test_an_older_decision_that_comes_late_does_not_win_over_one_that_was_not_written() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(1), OWNED))
    assert await folding.folds.fold(audit_of(decision(9), OWNED)) is False
    assert await folding.folds.fold(audit_of(rejected(5), OWNED)) is True
    assert folding.stored
    assert folding.stored.status.state is AuditState.ADMITTED
    assert [each.id for each in folding.stored.status.transitions] == [decision(9).id, decision(5).id]


@virtually
async def test_what_was_not_written_dies_with_its_audit() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(1), OWNED))
    await folding.folds.fold(audit_of(decision(9), OWNED))
    folding.audits.remove(NAME)
    await folding.folds.fold(audit_of(rejected(5), OWNED))
    assert folding.stored == audit_of(rejected(5), OWNED)


@virtually
async def test_a_conflict_is_folded_again_and_ends_in_another_delivery_for_all() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(1), OWNED))
    folding.audits.conflicts = 3
    assert await folding.all([audit_of(rejected(2), OWNED), audit_of(rejected(3), OWNED)]) == [True, True]
    folding.audits.conflicts = 100
    outcomes = await folding.all([audit_of(decision(4, images=()), OWNED)] * 3)
    assert [type(each) for each in outcomes] == [Retryable] * 3


@virtually
async def test_whoever_is_away_is_away_for_all_and_the_next_fold_is_as_ever() -> None:
    folding = Folding()
    for error in (Unavailable("kubernetes", "503"), Retryable("quota", delay=30), NamespaceGone("gone")):
        folding.audits.error = error
        outcomes = await folding.all([audit_of(decision(number), OWNED) for number in range(5)])
        assert outcomes == [error] * 5
    folding.audits.error = None
    assert await folding.folds.fold(audit_of(decision(1), OWNED)) is True


@virtually
async def test_a_part_the_api_server_never_takes_does_not_take_the_others_along() -> None:
    folding = Folding()
    folding.audits.refused["bad"] = Permanent("422 invalid")
    bad = audit_of(decision(3, release="bad"), OWNED)
    outcomes = await folding.all([audit_of(decision(1), OWNED), bad, audit_of(rejected(2), OWNED)])
    assert [isinstance(each, Permanent) for each in outcomes] == [False, True, False]
    assert folding.stored
    assert folding.stored.status.decision.id == decision(2).id


@virtually
async def test_a_cancelled_leader_leaves_nobody_waiting() -> None:
    folding = Folding()
    leader = asyncio.create_task(folding.folds.fold(audit_of(decision(1), OWNED)))
    await asyncio.sleep(0)
    follower = asyncio.create_task(folding.folds.fold(audit_of(decision(2), OWNED)))
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(Retryable):
        await follower
    assert await folding.folds.fold(audit_of(decision(3), OWNED)) is True


@virtually
async def test_a_cancelled_follower_changes_nothing_for_the_others() -> None:
    folding = Folding()
    tasks = [asyncio.create_task(folding.folds.fold(audit_of(decision(n), OWNED))) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in outcomes] == [bool, asyncio.CancelledError, bool]


@virtually
async def test_an_owner_taken_away_is_looked_at_again() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(1), OWNED))
    anew = audit_of(decision(2), ANEW)
    with pytest.raises(Retryable) as raised:
        await folding.folds.fold(anew)
    assert raised.value.delay == folds.SECOND_LOOK
    folding.audits.remove(NAME)  # the collector took it
    await folding.folds.fold(anew)
    assert folding.stored == anew


@virtually
async def test_an_owner_only_remembered_takes_no_audit_from_one_that_lives() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(2), ANEW))
    folding.owners.dead.add(OWNER.uid)
    with pytest.raises(Retryable):
        await folding.folds.fold(audit_of(decision(3), OWNED))
    assert folding.stored == audit_of(decision(2), ANEW)


@virtually
async def test_workloads_of_one_name_are_not_mixed_in_one_burst() -> None:
    folding = Folding()
    old, new = audit_of(rejected(1), OWNED), audit_of(decision(2), ANEW)
    outcomes = await folding.all([old, new, old, new])
    assert sum(isinstance(each, Retryable) for each in outcomes) == 2  # the owner was taken away
    assert folding.stored == new
    times = [at for _, at in folding.audits.written_at]
    assert times[-1] - times[0] >= folds.WRITE_INTERVAL - 1e-6


@virtually
async def test_an_audit_being_deleted_is_waited_for_but_not_for_ever() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(1), OWNED))
    stored = folding.audits.stored[NAME]
    dying = msgspec.structs.replace(stored.metadata, deletion_timestamp=datetime.now(UTC))
    folding.audits.stored[NAME] = msgspec.structs.replace(stored, metadata=dying)
    now = datetime.now(UTC)
    with pytest.raises(Retryable):
        await folding.folds.fold(audit_of(decision(2, decided_at=now), OWNED))
    late = now - timedelta(seconds=folds.DELETION_PATIENCE + 1)
    assert await folding.folds.fold(audit_of(rejected(3, decided_at=late), OWNED)) is True


@virtually
async def test_nothing_piles_up() -> None:
    folding = Folding()
    for number in range(20):
        standing = Standing(name=f"pod-{number}")
        await folding.folds.fold(audit_of(decision(1), standing))
        await folding.folds.fold(audit_of(decision(2), standing))
    assert not folding.folds._locks
    assert not folding.folds._open
    assert len(folding.folds._folded_at) == 1
    assert len(folding.folds._unwritten) == 20


def degraded(audit: Audit) -> Audit:
    mark = msgspec.structs.replace(audit.status.decision, id="flip", at=audit.status.last_seen)
    status = msgspec.structs.replace(audit.status, state=AuditState.DEGRADED, decision=mark)
    return msgspec.structs.replace(audit, status=status)


@virtually
async def test_a_change_is_read_changed_and_applied_with_what_follows_from_it() -> None:
    folding = Folding()
    assert await folding.folds.change("shop", NAME, degraded) is False  # there is none
    await folding.folds.fold(audit_of(decision(1), OWNED))
    folding.audits.conflicts = 2
    assert await folding.folds.change("shop", NAME, degraded) is True
    assert folding.stored
    assert folding.stored.metadata.labels["security.banzaicloud.com/state"] == "degraded"
    assert await folding.folds.change("shop", NAME, degraded) is False  # nothing new
    assert await folding.folds.change("shop", NAME, lambda _: None) is False
    folding.audits.conflicts = 100
    with pytest.raises(Retryable):
        await folding.folds.change("shop", NAME, lambda found: merge(found, audit_of(rejected(7), OWNED)))


@virtually
async def test_a_change_sees_what_was_folded_without_a_write() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(1), OWNED))
    await folding.folds.fold(audit_of(decision(9), OWNED))
    seen: list[Audit] = []

    def look(found: Audit) -> None:
        seen.append(found)

    assert await folding.folds.change("shop", NAME, look) is False
    assert [each.status.decision.id for each in seen] == [decision(9).id]


@virtually
async def test_what_another_hand_has_judged_since_is_not_undone() -> None:
    folding, other = Folding(), Folding()
    other.folds._cluster = folding.audits
    await folding.folds.fold(audit_of(decision(1), OWNED))
    assert await folding.folds.fold(audit_of(decision(5), OWNED)) is False

    def flipped(found: Audit) -> Audit:
        mark = msgspec.structs.replace(found.status.decision, judged_at=START + timedelta(seconds=9))
        status = msgspec.structs.replace(found.status, state=AuditState.DEGRADED, decision=mark)
        return msgspec.structs.replace(found, status=status)

    assert await other.folds.change("shop", NAME, flipped) is True
    assert await folding.folds.fold(audit_of(rejected(0, operation="UPDATE"), OWNED)) is True
    assert folding.stored
    assert folding.stored.status.state is AuditState.DEGRADED


@virtually
async def test_what_is_written_is_not_remembered() -> None:
    folding = Folding()
    await folding.folds.fold(audit_of(decision(1), OWNED))
    await folding.folds.fold(audit_of(decision(2), OWNED))
    assert len(folding.folds._unwritten) == 1
    await folding.folds.fold(audit_of(rejected(3), OWNED))
    assert len(folding.folds._unwritten) == 0
