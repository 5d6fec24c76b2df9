"""What runs is listed, owned and compared: the real audit-writer on a real control plane, nodes made up.

Every test has a Lease of its own and an inventory a second. A workload is due at once, not after a minute.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from services.audit_writer import observed
from shared.broker import Broker
from shared.contracts import OwnerClaim
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
    pod,
    publish,
    running,
    settled,
)
from tests.support.kube import Kubectl, move_tag

OLD, NEW = "sha256:" + "11" * 32, "sha256:" + "22" * 32


@pytest.fixture
async def events(nats_server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(nats_server) as broker:
        yield broker


@pytest.fixture
def start(
    nats_server: NatsServer,
    control_plane: ControlPlane,
    kubectl: Kubectl,
    monkeypatch: pytest.MonkeyPatch,
    events: Broker,
) -> Start:
    """Runs the service while the context is open; `events` has made the streams."""
    del events
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig()))
    monkeypatch.setattr(observed, "PATIENCE", timedelta(0))
    own = {"MOORGATE_NAMESPACE": kubectl.namespace, "MOORGATE_INVENTORY_INTERVAL": "1s"}
    return partial(running, nats_server, **own)


async def deployment(kubectl: Kubectl, image: str = "nginx:1.27") -> OwnerClaim:
    """A Deployment `web` whose one Pod runs; gives its ReplicaSet."""
    await kubectl.ok("create", "deployment", "web", f"--image={image}")
    await kubectl.wait("condition=Available", "deployment/web")
    [found] = await kubectl.get("replicasets")
    name, uid = found["metadata"]["name"], found["metadata"]["uid"]
    return OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name=name, uid=uid)


async def in_state(kubectl: Kubectl, name: str, state: str) -> dict[str, Any]:
    async def is_so() -> dict[str, Any] | None:
        found = await audit(kubectl, name)
        return found if found and found["status"]["state"] == state else None

    found: dict[str, Any] = await eventually(f"{name} is {state}", is_so)
    return found


async def another_inventory(kubectl: Kubectl, name: str) -> None:
    """Whatever runs by now has been seen: a Pod that began to run only now has its Audit."""
    await pod(kubectl, name)
    await eventually("the Pod is listed", lambda: audit(kubectl, f"pod-{name}"))


async def test_what_ran_before_is_listed_replaced_by_a_decision_and_goes_with_its_owner(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    owner = await deployment(kubectl)
    name = f"replicaset-{owner.name}"
    async with start():
        found = await bound(kubectl, name, owner.uid)
        assert found["status"]["state"] == "observed"
        assert found["spec"]["image"] == ["nginx:1.27"]
        assert (found["spec"]["action"], found["spec"]["releaseName"]) == ("allowed", owner.name)
        assert found["metadata"]["labels"]["fakerelease"] == "true"
        assert found["metadata"]["labels"]["security.banzaicloud.com/complete"] == "false"
        long_ago = now_decided(kubectl, ago=600, owner=owner)
        await publish(events, long_ago)
        found = await in_state(kubectl, name, "admitted")
        assert found["spec"]["result"] == ["Image passed policy check: nginx:1.27"]
        assert found["status"]["decision"]["id"] == long_ago.id
        await kubectl.ok("delete", "deployment", "web")
        await is_gone(kubectl, "audit", name, within=COLLECTED_WITHIN)


async def test_what_has_a_decision_is_not_observed(
    start: Start, events: Broker, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await deployment(kubectl)
    await publish(events, now_decided(kubectl, owner=owner))
    monkeypatch.setattr(observed, "PATIENCE", timedelta(minutes=1))
    async with start():
        await settled(events)
    # Anew: an inventory under way may have listed the Audits before the decision's was there.
    monkeypatch.setattr(observed, "PATIENCE", timedelta(0))
    async with start():
        await another_inventory(kubectl, "later")
        found = await bound(kubectl, f"replicaset-{owner.name}", owner.uid)
    assert found["status"]["state"] == "admitted"
    assert {each["state"] for each in found["status"]["transitions"]} == {"admitted"}


async def test_what_names_a_controller_nobody_can_read_is_listed_as_a_pod(
    start: Start, events: Broker, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = {"apiVersion": "nobody.example/v1", "kind": "Rollout", "name": "web", "uid": "1"}
    claimed = OwnerClaim(api_version="nobody.example/v1", kind="Rollout", name="other", uid="2")
    await pod(kubectl, "odd", ownerReferences=[{**made_up, "controller": True}])
    await pod(
        kubectl, "known", ownerReferences=[{**made_up, "name": "other", "uid": "2", "controller": True}]
    )
    await publish(events, now_decided(kubectl, ago=90, pod_name="known", owner=claimed))
    monkeypatch.setattr(observed, "PATIENCE", timedelta(minutes=1))
    async with start():
        await settled(events)
        monkeypatch.setattr(observed, "PATIENCE", timedelta(0))
        found = await eventually("it is listed", lambda: audit(kubectl, "pod-odd"))
        assert conditions(found) == {"OwnerUnverified": "KindNotServed"}
        assert found["status"]["state"] == "observed"
        await another_inventory(kubectl, "later")
        known = await audit(kubectl, "pod-known")
    assert known
    assert {each["state"] for each in known["status"]["transitions"]} == {"admitted"}


async def test_a_pod_without_controller_owns_what_was_observed(start: Start, kubectl: Kubectl) -> None:
    uid = await pod(kubectl, "lonely")
    async with start():
        found = await bound(kubectl, "pod-lonely", uid)
        assert found["status"]["state"] == "observed"
        await kubectl.ok("delete", "pod", "lonely", "--wait=false")
        await is_gone(kubectl, "audit", "pod-lonely", within=COLLECTED_WITHIN)


async def test_a_tag_pushed_anew_is_unverified_until_the_judged_image_runs_again(
    start: Start, events: Broker, kubectl: Kubectl, control_plane: ControlPlane
) -> None:
    tag = f"registry.example/{kubectl.namespace}:1"
    move_tag(control_plane, tag, OLD)
    owner = await deployment(kubectl, tag)
    name, container = f"replicaset-{owner.name}", kubectl.namespace
    judged = image(tag, container=container, digest=OLD, list_digest="")
    async with start():
        await publish(events, now_decided(kubectl, owner=owner, images=(judged,)))
        await in_state(kubectl, name, "admitted")
        astray = await _replaced(kubectl, name, "unverified", partial(move_tag, control_plane, tag, NEW))
        told = astray["status"]["transitions"][0]
        assert told["message"] == f"{container} ({tag}) runs {NEW}, judged was {OLD}"
        back = await _replaced(kubectl, name, "admitted", partial(move_tag, control_plane, tag, OLD))
        assert [each["outcome"] for each in back["status"]["transitions"][:2]] == ["verified", "unverified"]


async def _replaced(kubectl: Kubectl, name: str, state: str, push: Callable[[], None]) -> dict[str, Any]:
    """The Audit after a push to the registry and new Pods."""
    push()
    await kubectl.ok("delete", "pods", "--all", "--wait=false")
    return await in_state(kubectl, name, state)


async def test_the_digest_of_the_list_is_right_too(
    start: Start, events: Broker, kubectl: Kubectl, control_plane: ControlPlane
) -> None:
    tag = f"registry.example/{kubectl.namespace}:1"
    move_tag(control_plane, tag, NEW)
    owner = await deployment(kubectl, tag)
    judged = image(tag, container=kubectl.namespace, digest=OLD, list_digest=NEW)
    async with start():
        await publish(events, now_decided(kubectl, owner=owner, images=(judged,)))
        found = await in_state(kubectl, f"replicaset-{owner.name}", "admitted")
        await another_inventory(kubectl, "later")
        again = await audit(kubectl, f"replicaset-{owner.name}")
    assert again
    assert again["status"]["state"] == found["status"]["state"]


async def test_a_missing_owner_reference_is_mended(start: Start, events: Broker, kubectl: Kubectl) -> None:
    owner = await deployment(kubectl)
    name = f"replicaset-{owner.name}"
    async with start():
        await publish(events, now_decided(kubectl, owner=owner))
        await bound(kubectl, name, owner.uid)
        await kubectl.ok(
            "patch", "audit", name, "--type=merge", "-p", '{"metadata":{"ownerReferences":null}}'
        )
        found = await bound(kubectl, name, owner.uid)
    assert found["metadata"]["labels"]["security.banzaicloud.com/owned"] == "true"
    assert found["status"]["state"] == "admitted"


async def test_another_audit_writer_goes_on(start: Start, kubectl: Kubectl) -> None:
    async with AsyncExitStack() as second:
        async with start():
            await another_inventory(kubectl, "first")  # it leads
            await second.enter_async_context(start())
        await another_inventory(kubectl, "second")


async def test_what_has_ended_is_not_listed(start: Start, kubectl: Kubectl) -> None:
    await kubectl.ok("create", "job", "once", "--image=nginx:1.27")
    await kubectl.wait("condition=Complete", "job/once")
    async with start():
        await another_inventory(kubectl, "later")
        assert await audit(kubectl, "job-once") is None
