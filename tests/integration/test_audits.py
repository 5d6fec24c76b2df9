"""Decisions become Audits: the real audit-writer between a real NATS and a real control plane."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from functools import partial, reduce

import aiohttp
import msgspec
import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from services.audit_writer.audit import Standing, audit_of, merge, written_part
from shared import contracts, subjects
from shared.broker import Broker
from shared.contracts import Action, AdmissionDecided, Outcome, OwnerClaim, Reason
from shared.crds import API_VERSION, Audit, OwnerReference, owner_audit_name
from tests.audit_writer.decisions import image
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
    publish,
    replica_set,
    running,
    settled,
)
from tests.support.kube import Kubectl

MAX_AUDIT_BYTES = 64 * 1024


@pytest.fixture
async def events(nats_server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(nats_server) as broker:
        yield broker


@pytest.fixture
def start(nats_server: NatsServer, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs the service while the context is open."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig()))
    return partial(running, nats_server)


async def test_an_audit_is_made_owned_and_collected_with_its_owner(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    owner = await replica_set(kubectl)
    async with start():
        await publish(events, now_decided(kubectl, owner=owner, user="alice"))
        found = await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
        assert found["spec"]["result"] == ["Image passed policy check: nginx:1.27"]
        assert found["spec"]["action"] == "allowed"
        assert found["spec"]["user"] == "alice"
        assert found["status"]["state"] == "admitted"
        assert found["metadata"]["labels"]["fakerelease"] == "false"
        columns = await kubectl.ok("get", "adt")
        assert columns.split()[:6] == ["NAME", "RELEASE", "ACTION", "IMAGES", "RESULT", "STATE"]
        await kubectl.ok("delete", "replicaset", owner.name)
        await is_gone(kubectl, "audit", "replicaset-web-5cd466fccb", within=COLLECTED_WITHIN)


async def test_the_same_decision_again_writes_nothing(start: Start, events: Broker, kubectl: Kubectl) -> None:
    owner = await replica_set(kubectl)
    once = now_decided(kubectl, owner=owner)
    async with start():
        await publish(events, once)
        first = await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
        await settled(events)
        again = events.headers(once.type_name(), "another-id")
        await events.publish_raw(subjects.decision_subject(once.namespace), contracts.encode(once), again)
        await settled(events)
    assert await audit(kubectl, "replicaset-web-5cd466fccb") == first
    assert len(await kubectl.get("audits")) == 1


async def test_two_replicas_and_a_thousand_decisions_in_any_order_end_like_one_fold(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    """What one replica left unwritten the other cannot know: the next decision mends that (unwritten.py)."""
    owners = [await replica_set(kubectl, f"web-{number}") for number in range(4)]
    chance = random.Random(20261123)
    decisions = [_random_decision(chance, kubectl, number, owners) for number in range(1000)]
    chance.shuffle(decisions)
    async with start(), start():
        for some in range(0, len(decisions), 50):
            await asyncio.gather(*(publish(events, each) for each in decisions[some : some + 50]))
        await settled(events, within=100)
        newest = [now_rejected(kubectl, 1000 + number, owner=each) for number, each in enumerate(owners)]
        await publish(events, *newest)
        await settled(events)
    for owner in owners:
        found = await kubectl.ok("get", "--raw", f"{_path(kubectl)}/{owner_audit_name(owner)}")
        stored = written_part(msgspec.json.decode(found, type=Audit))
        expected = _sequential_fold([*decisions, *newest], owner)
        assert (stored.metadata, stored.spec) == (expected.metadata, expected.spec)
        assert (stored.status.state, stored.status.decision) == (
            expected.status.state,
            expected.status.decision,
        )
        assert len(stored.status.transitions) == 10
        assert {each.id for each in stored.status.transitions} <= {each.id for each in [*decisions, *newest]}


def _path(kubectl: Kubectl) -> str:
    return f"/apis/{API_VERSION}/namespaces/{kubectl.namespace}/audits"


def _random_decision(
    chance: random.Random, kubectl: Kubectl, number: int, owners: list[OwnerClaim]
) -> AdmissionDecided:
    name = f"app:{chance.randrange(15)}"
    outcome = chance.choice([Outcome.PASS, Outcome.FAIL])
    action = Action.ALLOWED if outcome is Outcome.PASS else Action.REJECTED
    return now_decided(
        kubectl,
        number,
        ago=chance.uniform(0, 600),
        owner=chance.choice(owners),
        images=(image(name, outcome),),
        action=action,
    )


def _sequential_fold(decisions: list[AdmissionDecided], owner: OwnerClaim) -> Audit:
    reference = OwnerReference(api_version=owner.api_version, kind=owner.kind, name=owner.name, uid=owner.uid)
    standing = Standing(name=owner_audit_name(owner), owner=reference)
    in_order = sorted(decisions, key=lambda each: (each.decided_at, each.id))
    return reduce(merge, (audit_of(each, standing) for each in in_order if each.owner == owner))


async def test_audits_appear_after_the_api_server_was_away(
    start: Start, events: Broker, kubectl: Kubectl, control_plane: ControlPlane
) -> None:
    owner = await replica_set(kubectl)
    async with start():
        await publish(events, now_decided(kubectl, 1, owner=owner))
        await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
        await control_plane.apiserver.stop()
        try:
            while_away = [now_decided(kubectl, number, owner=owner) for number in range(2, 39)]
            while_away.append(now_rejected(kubectl, 39, owner=owner))
            await publish(events, *while_away)
        finally:
            await control_plane.apiserver.start()
        await settled(events, within=60)
    found = await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
    assert found["status"]["decision"]["id"] == while_away[-1].id


async def test_what_cannot_be_read_becomes_a_dead_letter(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    owner = await replica_set(kubectl)
    subject = subjects.decision_subject(kubectl.namespace)
    async with start():
        await events.publish_raw(subject, b'{"type":"something-else"}', events.headers("?", "bad"))
        await publish(events, now_decided(kubectl, owner=owner))
        await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
        await settled(events)
    letter = await events.jetstream.get_last_msg(subjects.DEAD, subjects.dead_subject("decision"))
    assert contracts.decode(letter.data or b"", contracts.DEAD_LETTER).subject == subject


async def test_an_audit_stays_below_64_kib_whatever_the_pod(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    owner = await replica_set(kubectl)
    nasty = Reason(gate="g" * 100, trigger="<&>" * 40, action="stop", text="<script>&\u2028" * 12)
    images = tuple(
        image(f"{'long/' * 10}app:{number}", Outcome.FAIL, container=f"c{number}", reasons=(nasty,))
        for number in range(250)
    )
    huge = [
        now_rejected(
            kubectl,
            number,
            owner=owner,
            images=(image(f"odd:{number}", Outcome.FAIL), *images),
            message="<&>" * 5000,
        )
        for number in range(11)
    ]
    assert len(contracts.encode(huge[0])) > 3 * MAX_AUDIT_BYTES
    async with start():
        await publish(events, *huge)
        await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)
        await settled(events)
    raw = await kubectl.ok("get", "--raw", f"{_path(kubectl)}/replicaset-web-5cd466fccb")
    assert len(raw.encode()) < MAX_AUDIT_BYTES
    found = json.loads(raw)
    assert conditions(found) == {"Truncated": "TooLarge"}
    assert len(found["status"]["transitions"]) == 10


async def test_unowned_audits_go_after_the_retention(start: Start, events: Broker, kubectl: Kubectl) -> None:
    owner = await replica_set(kubectl)
    refused = now_rejected(kubectl, 2, pod_name="refused")
    async with start(MOORGATE_AUDIT_RETENTION="4s"):
        await publish(events, now_decided(kubectl, 1, owner=owner, ago=600), refused)
        await eventually("the record of a refused Pod", lambda: audit(kubectl, "pod-refused"))
        await is_gone(kubectl, "audit", "pod-refused")
    await bound(kubectl, "replicaset-web-5cd466fccb", owner.uid)


async def test_a_namespace_that_is_gone_or_going_has_nothing_to_record(
    start: Start, events: Broker, kubectl: Kubectl, control_plane: ControlPlane
) -> None:
    going = Kubectl(control_plane, f"going-{kubectl.namespace}")
    await going.ok("create", "namespace", going.namespace)
    held = {"name": "held", "finalizers": ["example.org/held"]}
    await going.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": held})
    await going.ok("delete", "namespace", going.namespace, "--wait=false")
    try:
        async with start():
            await publish(events, now_rejected(going), now_rejected(kubectl, namespace="no-such-namespace"))
            await settled(events)
        assert await going.get("audits") == []
    finally:
        await going.ok("patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


async def test_probes_and_metrics(start: Start, events: Broker, kubectl: Kubectl) -> None:
    port = free_port()
    async with start(MOORGATE_METRICS_LISTEN=f"127.0.0.1:{port}"), aiohttp.ClientSession() as session:

        async def ready() -> bool:
            async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                return answer.status == 200

        await publish(events, now_rejected(kubectl, pod_name="refused"))
        await eventually("it is ready", ready)
        await settled(events)
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            metrics = await answer.text()
    assert 'moorgate_audits_written_total{action="rejected"} 1.0' in metrics
    assert "moorgate_audit_lag_seconds_count 1.0" in metrics
