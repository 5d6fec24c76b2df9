"""What a burst costs the API server, and what a person sees of it: counted and shown by the real one."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from shared.broker import Broker
from shared.contracts import Outcome, OwnerClaim
from tests.audit_writer.decisions import image
from tests.audit_writer.service import (
    Start,
    audit,
    connected,
    eventually,
    now_decided,
    now_rejected,
    owner_uids,
    publish,
    running,
    settled,
)
from tests.support.kube import Kubectl

OWNERS, DECISIONS = 50, 2000


@pytest.fixture
async def events(nats_server: NatsServer) -> AsyncIterator[Broker]:
    async with connected(nats_server) as broker:
        yield broker


@pytest.fixture
def start(nats_server: NatsServer, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs the service while the context is open."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig()))
    return partial(running, nats_server)


async def replica_sets(kubectl: Kubectl, count: int) -> list[OwnerClaim]:
    """So many ReplicaSets that make no Pods of their own."""
    names = [f"web-{number}" for number in range(count)]
    await kubectl.create(
        {"apiVersion": "v1", "kind": "List", "items": [_replica_set(name) for name in names]}
    )
    uids = {each["metadata"]["name"]: each["metadata"]["uid"] for each in await kubectl.get("replicasets")}
    return [OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name=name, uid=uids[name]) for name in names]


def _replica_set(name: str) -> dict[str, Any]:
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": spec}


async def requests(kubectl: Kubectl, resource: str, *verbs: str) -> int:
    """How many of these the API server has answered so far."""
    metrics = await kubectl.ok("get", "--raw", "/metrics")
    lines = re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", metrics, re.MULTILINE)
    wanted = [
        float(value)
        for labels, value in lines
        if f'resource="{resource}"' in labels and any(f'verb="{verb}"' in labels for verb in verbs)
    ]
    return int(sum(wanted))


async def test_a_burst_of_two_thousand_pods_is_two_writes_a_workload(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    owners = await replica_sets(kubectl, OWNERS)
    burst = [
        now_decided(
            kubectl, number, ago=random.uniform(0, 5), owner=owners[number % OWNERS]
        )  # any order will do
        for number in range(DECISIONS)
    ]
    written = await requests(kubectl, "audits", "POST", "APPLY", "PATCH", "PUT")
    looked_up = await requests(kubectl, "replicasets", "GET")
    async with start():
        for some in range(0, DECISIONS, 200):
            await asyncio.gather(*(publish(events, each) for each in burst[some : some + 200]))
        await settled(events, within=60)
    audits = await kubectl.get("audits")
    assert len(audits) == OWNERS
    assert all(owner_uids(each) for each in audits)
    written = await requests(kubectl, "audits", "POST", "APPLY", "PATCH", "PUT") - written
    assert written == 2 * OWNERS, "each is created, and then owned"
    looked_up = await requests(kubectl, "replicasets", "GET") - looked_up
    assert looked_up < 4 * OWNERS, looked_up


async def test_a_flood_of_one_workload_with_ever_new_answers_is_a_write_a_second(
    start: Start, events: Broker, kubectl: Kubectl
) -> None:
    [owner] = await replica_sets(kubectl, 1)
    written = await requests(kubectl, "audits", "POST", "APPLY", "PATCH", "PUT")
    begun = asyncio.get_running_loop().time()
    async with start():
        for number in range(0, 600, 20):
            some = [
                now_decided(kubectl, number + each, owner=owner, images=(image(f"app:{number + each}"),))
                for each in range(20)
            ]
            await asyncio.gather(*(publish(events, each) for each in some))
        await settled(events, within=60)
    took = asyncio.get_running_loop().time() - begun
    found = await audit(kubectl, "replicaset-web-0")
    assert found
    assert len(found["status"]["transitions"]) == 10
    written = await requests(kubectl, "audits", "POST", "APPLY", "PATCH", "PUT") - written
    assert written <= 3 + took, (written, took)


async def test_a_person_can_read_the_columns(start: Start, events: Broker, kubectl: Kubectl) -> None:
    [owner] = await replica_sets(kubectl, 1)
    three = (
        image("nginx:1.27", policy="prod"),
        image("r.example/app:2", Outcome.FAIL, policy="prod"),
        image("c"),
    )
    async with start():
        await publish(
            events,
            now_rejected(kubectl, 1, owner=owner, images=three, user="alice"),
            now_decided(kubectl, 2, pod_name="job", images=(image(outcome=Outcome.PENDING),), ago=100),
            now_rejected(kubectl, 3, pod_name="tool", images=(image("tool:1", Outcome.ERROR),)),
        )
        await settled(events)
    narrow = await kubectl.ok("get", "audits")
    [headings, *rows] = [re.split(r"\s{2,}", line.strip()) for line in narrow.splitlines()]
    assert headings == ["NAME", "RELEASE", "ACTION", "IMAGES", "RESULT", "STATE", "AGE"]
    assert [row[:6] for row in rows] == [
        ["pod-job", "web", "allowed", "nginx:1.27", "pending", "admitted"],
        ["pod-tool", "web", "reject", "tool:1", "unchecked: image_not_found", "rejected"],
        [
            "replicaset-web-0",
            "web",
            "reject",
            "r.example/app:2, +2 more",
            "1 of 3 failed: CVE-2026-0001",
            "rejected",
        ],
    ]
    wide = await kubectl.ok("get", "audits", "-o", "wide")
    print(narrow, wide, sep="\n")  # noqa: T201
    assert re.split(r"\s{2,}", wide.splitlines()[0].strip())[7:] == ["LAST SEEN", "POLICY", "USER", "REASON"]
    assert "prod, +1 more" in wide
    assert "vulnerabilities/package: CVE-2026-0001 in openssl" in wide


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("security.banzaicloud.com/complete=false", ["pod-job"]),
        ("security.banzaicloud.com/action=reject", ["pod-tool"]),
        ("security.banzaicloud.com/state=admitted", ["pod-job"]),
        ("security.banzaicloud.com/release=shop,fakerelease=false", ["pod-tool"]),
        ("fakerelease=true", ["pod-job"]),
    ],
)
async def test_labels_select(
    start: Start, events: Broker, kubectl: Kubectl, selector: str, names: list[str]
) -> None:
    async with start():
        await publish(
            events,
            now_decided(
                kubectl,
                1,
                pod_name="job",
                images=(image(outcome=Outcome.PENDING),),
                ago=100,
                fake_release=True,
            ),
            now_rejected(kubectl, 2, pod_name="tool", release="shop"),
        )
        await eventually("both are there", partial(_count, kubectl, 2))
        found = await kubectl.ok("get", "audits", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}")
    assert found.split() == names


async def _count(kubectl: Kubectl, count: int) -> bool:
    return len(await kubectl.get("audits")) == count
