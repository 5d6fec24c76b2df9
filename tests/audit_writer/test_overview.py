"""What is done after an inventory, and what one Audit's trouble means for the others."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.audit_writer import overview
from services.audit_writer.audit import Doubt, Standing, audit_of
from services.audit_writer.cluster import AuditCluster, NamespaceGone, StoredAudit
from services.audit_writer.folds import Folds
from services.audit_writer.overview import Overview
from services.audit_writer.owners import Owners
from services.audit_writer.running import Running, RunningImage, Snapshot, Workload
from services.audit_writer.sketches import Sketch
from shared.cluster import Cluster
from shared.contracts import AdmissionDecided, ContainerKind, Mode, OwnerClaim
from shared.crds import Audit, AuditMetadata, AuditState, OwnerReference, owner_audit_name
from shared.errors import Permanent, Retryable, Unavailable
from shared.image_policies import PolicyFeed
from shared.policies import OnError, OnPending, Rule
from tests.audit_writer.decisions import claim, decision
from tests.support.nats import Bell

NOW = datetime.now(UTC)
AWAY = Unavailable("kubernetes", "no answer")


@pytest.fixture(autouse=True)
def just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages count from the test's beginning, not from the collection minutes before."""
    monkeypatch.setattr(sys.modules[__name__], "NOW", datetime.now(UTC))


def workload(name: str = "web", *, age: float = 3600) -> Workload:
    owner = claim(name, uid=f"uid-of-{name}")
    return Workload(
        namespace="shop",
        audit=owner_audit_name(owner),
        owner=owner,
        pod=f"{name}-x",
        release=name,
        release_matched=name,
        fake_release=False,
        pods=1,
        since=NOW - timedelta(seconds=age),
        images=(),
    )


class World:
    """Says what the test wants, and remembers what was done."""

    def __init__(self) -> None:
        self.audits: dict[str, Audit] = {}
        self.folded: list[str] = []
        self.changed: list[str] = []
        self.refuses: dict[str, Exception] = {}
        self.doubts: dict[str, Doubt] = {}
        self.bell = Bell()
        self.running = Running()
        rule = Rule(mode=Mode.ENFORCE, on_pending=OnPending.RETRY, on_error=OnError.DENY)
        self.overview = Overview(
            api_server=Cluster.__new__(Cluster),
            cluster=_Cluster(self),
            folds=_Folds(self),
            owners=_Owners(self),
            running=self.running,
            policies=PolicyFeed(rule),
            tenants=lambda _: None,
        )

    async def go_through(self, *workloads: Workload) -> None:
        await self.overview.go_through(snapshot(*workloads))

    def note(self, name: str, done: list[str]) -> None:
        error = self.refuses.get(name)
        done.append(name)
        self.bell.ring()
        if error:
            raise error


class _Cluster(AuditCluster):
    def __init__(self, world: World) -> None:
        self._world = world

    async def audit(self, namespace: str, name: str) -> StoredAudit | None:
        assert namespace == "shop"
        found = self._world.audits.get(name)
        return StoredAudit(found.metadata, found) if found else None


class _Owners(Owners):
    def __init__(self, world: World) -> None:
        self._world = world

    async def standing(self, decision: AdmissionDecided) -> Standing:
        assert decision.owner
        doubt = self._world.doubts.get(decision.owner.name)
        if doubt:
            return Standing(name=f"pod-{decision.pod_name}", doubt=doubt)
        return Standing(name=owner_audit_name(decision.owner), owner=reference(decision.owner))


class _Folds(Folds):
    def __init__(self, world: World) -> None:
        self._world = world

    async def fold(self, fresh: Audit) -> bool:
        self._world.note(fresh.metadata.name, self._world.folded)
        return True

    async def change(self, namespace: str, name: str, change: Callable[[Audit], Audit | None]) -> bool:
        assert namespace == "shop"
        before = self._world.audits[name]
        after = change(before)
        if after is None or after == before:
            return False
        self._world.note(name, self._world.changed)
        self._world.audits[name] = after
        return True


def snapshot(*workloads: Workload) -> Snapshot:
    found = {(each.namespace, each.audit): each for each in workloads}
    return Snapshot(taken_at=NOW, workloads=found, namespaces={})


def reference(owner: OwnerClaim) -> OwnerReference:
    return OwnerReference(api_version=owner.api_version, kind=owner.kind, name=owner.name, uid=owner.uid)


def audited(name: str = "web", *, is_owned: bool = True, ago: float = 60, **changes: Any) -> Audit:
    owner = claim(name, uid=f"uid-of-{name}")
    standing = Standing(name=owner_audit_name(owner), owner=reference(owner) if is_owned else None)
    return audit_of(decision(owner=owner, decided_at=NOW - timedelta(seconds=ago), **changes), standing)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    async def all_audits(_: Cluster) -> AsyncIterator[tuple[tuple[str, str], Sketch | None]]:
        for name, each in world.audits.items():
            yield ("shop", name), msgspec.json.decode(msgspec.json.encode(each), type=Sketch)

    monkeypatch.setattr(overview, "all_audits", all_audits)
    return world


def keep(world: World, *audits: Audit) -> None:
    world.audits |= {each.metadata.name: each for each in audits}


async def test_what_has_no_audit_gets_one_unless_it_is_young(world: World) -> None:
    keep(world, audited("known"))
    await world.go_through(workload("known"), workload("old"), workload("young", age=10))
    assert world.folded == ["replicaset-old"]
    assert world.changed == []


async def test_more_than_there_are_workers_for_all_get_theirs(world: World) -> None:
    many = [workload(f"app-{number}") for number in range(3 * overview.WRITERS)]
    await world.go_through(*many)
    assert len(world.folded) == len(many)


async def test_a_digest_that_was_not_judged_is_told_and_told_once(world: World) -> None:
    keep(world, audited())
    running = RunningImage(
        container="web",
        container_kind=ContainerKind.CONTAINER,
        image="nginx:1.27",
        reference="docker.io/library/nginx:1.27",
        digests=frozenset({"sha256:" + "ff" * 32}),
    )
    astray = msgspec.structs.replace(workload(), images=(running,))
    for _ in range(2):
        await world.go_through(astray)
    assert world.audits["replicaset-web"].status.state is AuditState.UNVERIFIED
    assert world.changed == ["replicaset-web"]


@pytest.mark.parametrize(
    "error", [Retryable("later", delay=1), Permanent("never"), NamespaceGone("namespaces shop not found")]
)
async def test_what_one_cannot_be_given_the_others_get(world: World, error: Exception) -> None:
    world.refuses["replicaset-bad"] = error
    await world.go_through(workload("bad"), workload("good"))
    assert sorted(world.folded) == ["replicaset-bad", "replicaset-good"]


async def test_an_api_server_that_is_away_ends_it_and_it_begins_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.refuses["replicaset-web"] = AWAY
    with pytest.raises(Unavailable):
        await world.go_through(workload())
    monkeypatch.setattr(overview, "AFTER_ERROR", 0.0)
    world.running.replace(snapshot(workload()))
    going = asyncio.create_task(world.overview.run())
    await world.bell.until(lambda: len(world.folded) > 2)
    going.cancel()


@pytest.mark.parametrize(
    ("reason", "is_listed"),
    [("OwnerNotFound", False), ("OtherUid", False), ("OwnerBeingDeleted", False), ("NotReadable", True)],
)
async def test_what_is_collected_with_its_owner_is_not_listed(
    world: World, reason: str, *, is_listed: bool
) -> None:
    world.doubts["web"] = Doubt(reason, "")
    await world.go_through(workload())
    assert world.folded == (["pod-web-x"] if is_listed else [])


async def test_a_doubtful_one_that_was_decided_about_is_left_alone(world: World) -> None:
    world.doubts["web"] = Doubt("NotReadable", "")
    decided = audited("other")
    keep(world, msgspec.structs.replace(decided, metadata=_named(decided, "pod-web-x")))
    await world.go_through(workload())
    assert world.folded == []


def _named(audit: Audit, name: str) -> AuditMetadata:
    return msgspec.structs.replace(audit.metadata, name=name)


async def test_a_missing_owner_is_added_and_nothing_else_changes(world: World) -> None:
    keep(world, audited(is_owned=False))
    await world.go_through(workload())
    mended = world.audits["replicaset-web"]
    assert [each.uid for each in mended.metadata.owner_references] == ["uid-of-web"]
    assert mended.status == audited(is_owned=False).status
    await world.go_through(workload())
    assert world.changed == ["replicaset-web"]


async def test_an_unowned_one_that_runs_is_seen_now_and_then(world: World) -> None:
    world.doubts["web"] = Doubt("NotReadable", "")
    keep(world, audited(is_owned=False, ago=60))
    await world.go_through(workload())
    assert world.changed == []
    keep(world, audited(is_owned=False, ago=3600))
    await world.go_through(workload())
    assert world.audits["replicaset-web"].status.last_seen >= NOW
    assert world.audits["replicaset-web"].metadata.owner_references == ()


async def test_what_is_known_only_by_a_refused_update_is_observed(world: World) -> None:
    keep(world, audited(operation="UPDATE", sub_resource="ephemeralcontainers"))
    await world.go_through(workload())
    assert world.folded == ["replicaset-web"]


async def test_what_somebody_broke_is_left_to_the_next_decision(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Cluster) -> AsyncIterator[tuple[tuple[str, str], Sketch | None]]:
        yield ("shop", "replicaset-web"), None

    monkeypatch.setattr(overview, "all_audits", broken)
    await world.go_through(workload())
    assert (world.folded, world.changed) == ([], [])


async def test_an_audit_of_what_runs_no_more_is_not_touched(world: World) -> None:
    keep(world, audited(is_owned=False, ago=3600))
    await world.go_through()
    assert world.changed == []
    assert world.audits["replicaset-web"].status.state is AuditState.ADMITTED
