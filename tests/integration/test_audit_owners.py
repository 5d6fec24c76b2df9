"""Whose Audit it is, with a real garbage collector: no forged or dead owner takes a record along."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import msgspec
import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from services.audit_writer import folds, recorder
from shared.broker import Broker
from shared.contracts import OwnerClaim
from shared.crds import API_VERSION, owner_audit_name
from tests.audit_writer.service import (
    COLLECTED_WITHIN,
    Start,
    audit,
    bound,
    conditions,
    connected,
    eventually,
    is_gone,
    now_decided,
    now_rejected,
    owner_uids,
    pod,
    publish,
    replica_set,
    running,
    settled,
)
from tests.support.kube import Kubectl


@pytest.fixture
async def events(nats_server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(nats_server) as broker:
        yield broker


@pytest.fixture
def start(nats_server: NatsServer, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs the service while the context is open."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig()))
    return partial(running, nats_server)


@pytest.mark.parametrize(
    ("claimed", "reason"),
    [
        ({"uid": "11111111-1111-4111-8111-111111111111"}, "OtherUid"),
        ({"name": "not-there"}, "OwnerNotFound"),
        ({"kind": "StatefulSet"}, "OwnerNotFound"),
        ({"api_version": "v1", "kind": "Node"}, "OwnerNotFound"),
        ({"name": "../../nodes"}, "BadReference"),
        ({"api_version": "apps/v1/../../api/v1"}, "BadReference"),
    ],
)
async def test_a_forged_owner_does_not_make_the_audit_vanish(
    start: Start, events: Broker, kubectl: Kubectl, claimed: dict[str, str], reason: str
) -> None:
    owner = await replica_set(kubectl)
    async with start():
        true = now_decided(kubectl, 1, owner=owner)
        await publish(events, true)
        await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
        forged = msgspec.structs.replace(owner, **claimed)
        await publish(
            events,
            now_rejected(kubectl, 2, pod_name="evil", owner=forged),
        )
        await settled(events)
    untouched = await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
    assert untouched["status"]["decision"]["id"] == true.id
    found = await audit(kubectl, "pod-evil")
    assert found
    assert conditions(found) == {"OwnerUnverified": reason}
    assert owner_uids(found) == []


async def test_a_pod_collected_for_its_forged_owner_leaves_its_audit(
    start: Start, events: Broker, kubectl: Kubectl, control_plane: ControlPlane
) -> None:
    elsewhere = Kubectl(control_plane, "default")
    neighbour = await replica_set(elsewhere, f"neighbour-{kubectl.namespace}")
    reference = {
        "apiVersion": neighbour.api_version,
        "kind": neighbour.kind,
        "name": neighbour.name,
        "uid": neighbour.uid,
        "controller": True,
    }
    try:
        uid = await pod(kubectl, "evil", ownerReferences=[reference])
        async with start():
            await publish(events, now_decided(kubectl, pod_name="evil", pod_uid=uid, owner=neighbour))
            await settled(events)
            await is_gone(kubectl, "pod", "evil", within=COLLECTED_WITHIN)
    finally:
        await elsewhere.ok("delete", "replicaset", neighbour.name)
    found = await audit(kubectl, "pod-evil")
    assert found
    assert conditions(found) == {"OwnerUnverified": "OwnerNotFound"}


async def test_a_pod_without_controller_owns_its_audit_once_it_is_there(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    uid = await pod(kubectl, "lonely")
    early = now_decided(kubectl, 1, pod_name="later", pod_uid="not-yet", fake_release=True)
    async with start():
        await publish(events, now_decided(kubectl, 2, pod_name="lonely", pod_uid=uid), early)
        await bound(kubectl, "pod-lonely", uid)
        written = await eventually("an Audit without owner", lambda: audit(kubectl, "pod-later"))
        assert owner_uids(written) == []
        assert written["metadata"]["labels"]["fakerelease"] == "true"
        late_uid = await pod(kubectl, "later")
        await publish(
            events,
            msgspec.structs.replace(
                early, id=f"{kubectl.namespace}-3", pod_uid=late_uid, decided_at=datetime.now(UTC)
            ),
        )
        await bound(kubectl, "pod-later", late_uid)


async def test_a_pod_that_a_later_webhook_refused_keeps_its_audit(
    start: Start, events: Broker, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "OWNER_PATIENCE", 2.0)
    async with start():
        await publish(events, now_decided(kubectl, pod_name="refused", pod_uid="never-stored"))
        await settled(events)
    found = await audit(kubectl, "pod-refused")
    assert found
    assert owner_uids(found) == []
    assert found["metadata"]["labels"]["security.banzaicloud.com/owned"] == "false"


async def test_a_pod_tried_again_under_a_taken_name_leaves_the_record_of_the_living(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    uid = await pod(kubectl, "lonely")
    lives = now_decided(kubectl, 1, pod_name="lonely", pod_uid=uid)
    async with start():
        await publish(events, lives, now_rejected(kubectl, 2, pod_name="lonely", pod_uid="never-stored"))
        await settled(events)
    found = await bound(kubectl, "pod-lonely", uid)
    assert found["status"]["state"] == "admitted"
    assert {each["action"] for each in found["status"]["transitions"]} == {"allowed", "reject"}


async def test_an_owner_made_anew_takes_over_its_audit(
    start: Start,
    events: Broker,
    kubectl: Kubectl,
    control_plane: ControlPlane,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folds, "SECOND_LOOK", 5.0)  # time enough for kubectl to be the collector
    old = await replica_set(kubectl)
    async with start():
        await publish(events, now_decided(kubectl, 1, owner=old))
        await bound(kubectl, "replicaset-web-5cd466fccb", old.uid)
        control_plane.controller_manager.pause()  # so that the Audit of the old owner is surely still there
        try:
            await kubectl.ok("delete", "replicaset", old.name)
            new = await replica_set(kubectl)
            await publish(events, now_decided(kubectl, 2, owner=new))
            await bound(kubectl, "replicaset-web-5cd466fccb", new.uid)
            # What a collector does that read the old owner and deletes by uid alone:
            await kubectl.ok("delete", "audit", "replicaset-web-5cd466fccb")
            await bound(kubectl, "replicaset-web-5cd466fccb", new.uid)
            await publish(events, now_decided(kubectl, 3, owner=old, pod_name="straggler"))
            await settled(events)
        finally:
            control_plane.controller_manager.resume()
        await _collector_has_passed(kubectl, old)
    found = await bound(kubectl, "replicaset-web-5cd466fccb", new.uid)
    assert found["status"]["decision"]["id"] == f"{kubectl.namespace}-2"
    late = await audit(kubectl, "pod-straggler")
    assert late
    assert conditions(late) == {"OwnerUnverified": "OtherUid"}


async def _collector_has_passed(kubectl: Kubectl, dead: OwnerClaim) -> None:
    """A ConfigMap of a dead owner is gone: the collector has seen that owner to be dead."""
    reference = {"apiVersion": dead.api_version, "kind": dead.kind, "name": dead.name, "uid": dead.uid}
    metadata = {"name": "canary", "ownerReferences": [reference]}
    await kubectl.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    await is_gone(kubectl, "configmap", "canary", within=COLLECTED_WITHIN)


async def test_owners_of_other_kinds_are_found_by_discovery(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    name = f"item-{kubectl.namespace}"
    item = {"apiVersion": API_VERSION, "kind": "WhiteListItem", "metadata": {"name": name}}
    uid = await kubectl.ok(
        "create", "-f", "-", "-o", "jsonpath={.metadata.uid}", stdin={**item, "spec": {"reason": "an owner"}}
    )
    owner = OwnerClaim(api_version=API_VERSION, kind="WhiteListItem", name=name, uid=uid.strip())
    node = (await kubectl.get("nodes"))[0]["metadata"]
    mirror = OwnerClaim(api_version="v1", kind="Node", name=node["name"], uid=node["uid"])
    try:
        async with start():
            await publish(events, now_decided(kubectl, 1, owner=owner), now_decided(kubectl, 2, owner=mirror))
            await bound(kubectl, owner_audit_name(owner), owner.uid)
            await bound(kubectl, owner_audit_name(mirror), mirror.uid)
    finally:
        await kubectl.ok("delete", "whitelistitem", name)
