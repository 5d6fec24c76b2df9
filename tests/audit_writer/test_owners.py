"""Whose Audit it is, with an API server that says what the test wants."""

import asyncio
import time

import msgspec
import pytest

from services.audit_writer import owners
from services.audit_writer.audit import Standing
from services.audit_writer.cluster import AuditCluster, OwnerMeta, Resource
from services.audit_writer.owners import Owners
from shared.contracts import Action, OwnerClaim
from shared.errors import Refused, Unavailable
from tests.audit_writer.decisions import claim, decision

AWAY = Unavailable("kubernetes", "no answer")
ROLLOUT = Resource("rollouts", "Rollout", namespaced=True)


class MadeUpCluster(AuditCluster):
    """Answers from a table; everything else would need a connection."""

    def __init__(self, **objects: OwnerMeta | Exception) -> None:
        self.objects = objects
        self.kinds: dict[str, Resource] | Exception = {"Rollout": ROLLOUT}
        self.is_there = True
        self.discoveries = 0

    async def owner(
        self, api_version: str, resource: Resource, namespace: str, name: str
    ) -> OwnerMeta | None:
        assert api_version
        assert namespace == "shop"
        found = self.objects.get(f"{resource.name}_{name}".replace("-", "_"))
        if isinstance(found, Exception):
            raise found
        return found

    async def resources(self, api_version: str) -> dict[str, Resource]:
        assert "/" in api_version
        self.discoveries += 1
        if isinstance(self.kinds, Exception):
            raise self.kinds
        return self.kinds

    async def answers(self) -> bool:
        return self.is_there


async def standing(
    cluster: AuditCluster,
    owner: OwnerClaim | None = None,
    pod_name: str = "web",
    action: Action = Action.ALLOWED,
) -> Standing:
    return await Owners(cluster).standing(decision(owner=owner, pod_name=pod_name, action=action))


async def test_a_controller_that_checks_out() -> None:
    cluster = MadeUpCluster(replicasets_web_5cd466fccb=OwnerMeta("owner-uid"))
    found = await standing(cluster, claim())
    assert found.name == "replicaset-web-5cd466fccb"
    assert found.owner
    assert found.owner.uid == "owner-uid"
    assert not found.owner.block_owner_deletion
    assert cluster.discoveries == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (OwnerMeta("other-uid"), "OtherUid"),
        (OwnerMeta("owner-uid", "2026-11-23T12:00:00Z"), "OwnerBeingDeleted"),
        (Refused(403, "may not get replicasets"), "NotReadable"),
    ],
)
async def test_a_claim_that_does_not_check_out_is_the_pods_own(
    answer: OwnerMeta | Exception, reason: str
) -> None:
    found = await standing(MadeUpCluster(replicasets_web_5cd466fccb=answer), claim())
    assert found.name == "pod-web"
    assert found.owner is None
    assert found.doubt
    assert found.doubt.reason == reason
    assert found.is_final


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ".."},
        {"name": "a/b"},
        {"name": ""},
        {"name": "a?x=y"},
        {"api_version": "apps/v1/../v1"},
        {"api_version": ""},
        {"api_version": "../v1"},
    ],
)
async def test_no_text_of_a_pod_becomes_a_path(changes: dict[str, str]) -> None:
    found = await standing(MadeUpCluster(), msgspec.structs.replace(claim(), **changes))
    assert found.doubt
    assert found.doubt.reason == "BadReference"


async def test_an_api_server_that_is_away_is_waited_for() -> None:
    with pytest.raises(Unavailable):
        await standing(MadeUpCluster(replicasets_web_5cd466fccb=AWAY), claim())


async def test_an_extension_that_is_away_holds_up_nobody() -> None:
    custom = claim("web", api_version="argoproj.io/v1alpha1", kind="Rollout")
    found = await standing(MadeUpCluster(rollouts_web=AWAY), custom)
    assert found.doubt
    assert (found.doubt.reason, found.is_final) == ("KindNotServed", False)
    cluster = MadeUpCluster()
    cluster.kinds, cluster.is_there = AWAY, False
    with pytest.raises(Unavailable):
        await standing(cluster, custom)


async def test_a_kind_nobody_serves_is_looked_for_again() -> None:
    found = await standing(MadeUpCluster(), claim(kind="Nonsense", api_version="argoproj.io/v1"))
    assert found.doubt
    assert not found.is_final


async def test_discovery_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "KINDS_KNOWN", 2)
    cluster = MadeUpCluster(rollouts_web=OwnerMeta("owner-uid"))
    lookup = Owners(cluster)
    for group in ("a.io/v1", "a.io/v1", "b.io/v1", "c.io/v1", "c.io/v1"):
        custom = claim("web", api_version=group, kind="Rollout")
        assert (await lookup.standing(decision(owner=custom))).owner
    assert cluster.discoveries == 3
    assert len(lookup._kinds) == 2


async def test_a_pod_without_controller_owns_its_own_audit() -> None:
    found = await standing(MadeUpCluster(pods_web=OwnerMeta("pod-uid-1")))
    assert found.owner
    assert (found.name, found.owner.kind, found.owner.uid) == ("pod-web", "Pod", "pod-uid-1")


async def test_a_pod_that_is_not_there_yet_may_still_come() -> None:
    assert await standing(MadeUpCluster()) == Standing(name="pod-web", is_final=False)
    assert await standing(MadeUpCluster(), action=Action.REJECTED) == Standing(name="pod-web")


async def test_a_pod_whose_name_is_taken_leaves_the_record_of_the_other() -> None:
    taken = MadeUpCluster(pods_web=OwnerMeta("another-uid"))
    assert await standing(taken) == Standing(name="pod-web", is_final=False, is_attempt=True)
    assert await standing(taken, action=Action.REJECTED) == Standing(name="pod-web", is_attempt=True)


async def test_refused_and_dying_pods_own_nothing() -> None:
    dying = MadeUpCluster(pods_web=OwnerMeta("pod-uid-1", "2026-11-23T12:00:00Z"))
    assert await standing(dying) == Standing(name="pod-web")
    alive = MadeUpCluster(pods_web=OwnerMeta("pod-uid-1"))
    assert await standing(alive, action=Action.REJECTED) == Standing(name="pod-web")


class CountingCluster(MadeUpCluster):
    """Counts, and lets others come between."""

    reads = 0

    async def owner(
        self, api_version: str, resource: Resource, namespace: str, name: str
    ) -> OwnerMeta | None:
        self.reads += 1
        await asyncio.sleep(0)
        return await super().owner(api_version, resource, namespace, name)


async def test_of_a_burst_of_one_owner_one_decision_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = CountingCluster(replicasets_web_5cd466fccb=OwnerMeta("owner-uid"))
    lookup = Owners(cluster)
    burst = [decision(number, owner=claim()) for number in range(100)]
    found = await asyncio.gather(*(lookup.standing(each) for each in burst))
    assert all(each.owner and each.owner.uid == "owner-uid" for each in found)
    assert cluster.reads == 1
    later = time.monotonic() + owners.OWNERS_KNOWN_FOR + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (await lookup.standing(burst[0])).owner
    assert cluster.reads == 2
    assert len(lookup._claims) == 0


async def test_only_the_uid_that_was_found_alive_is_spared_the_read() -> None:
    cluster = CountingCluster(replicasets_web_5cd466fccb=OwnerMeta("owner-uid"))
    lookup = Owners(cluster)
    assert (await lookup.standing(decision(owner=claim()))).owner
    for _ in range(2):
        assert (await lookup.standing(decision(owner=claim(uid="forged")))).doubt
    assert cluster.reads == 3
    cluster.objects["replicasets_web_5cd466fccb"] = OwnerMeta("new-uid")
    assert (await lookup.standing(decision(owner=claim(uid="new-uid")))).owner
    assert cluster.reads == 4


async def test_what_must_be_true_now_is_read_now() -> None:
    cluster = CountingCluster(replicasets_web_5cd466fccb=OwnerMeta("owner-uid"))
    lookup = Owners(cluster)
    reference = (await lookup.standing(decision(owner=claim()))).owner
    assert reference
    assert await lookup.is_alive("shop", reference)
    cluster.objects.clear()
    assert not await lookup.is_alive("shop", reference)
    assert (await lookup.standing(decision(owner=claim()))).doubt


async def test_owners_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "OWNERS_KNOWN", 2)
    cluster = CountingCluster(**{f"replicasets_web_{number}": OwnerMeta("owner-uid") for number in range(5)})
    lookup = Owners(cluster)
    for number in (0, 1, 2, 0, 2):
        assert (await lookup.standing(decision(owner=claim(f"web-{number}")))).owner
    assert cluster.reads == 4
    assert len(lookup._alive) == 2
