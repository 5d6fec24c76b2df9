"""A thousand decisions while the API server is away and an audit-writer is killed: every Audit is there, once."""

import asyncio
import secrets
import sys
from pathlib import Path

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.services import ROOT
from shared.crds import owner_audit_name
from tests.audit_writer.service import connected, now_decided, now_rejected, publish, replica_set, settled
from tests.support.kube import Kubectl

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

OWNERS, DECISIONS = 20, 1000

AWAY = 30.0
"""Seconds the API server is away."""


def audit_writer(folder: Path, nats: NatsServer, plane: ControlPlane, namespace: str) -> Process:
    port = free_port()
    name = f"audit-writer-{secrets.token_hex(3)}"
    return Process(
        name=name,
        argv=[sys.executable, "-m", "services.audit_writer"],
        log=folder / f"{name}.log",
        ready=answers_ok(f"http://127.0.0.1:{port}/readyz"),
        ready_within=40,
        env={
            "KUBECONFIG": str(plane.kubeconfig()),
            "MOORGATE_NAMESPACE": namespace,
            "MOORGATE_NATS_URL": nats.url,
            "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{port}",
        },
        cwd=ROOT,
    )


async def test_the_api_server_away_and_a_writer_killed_in_the_middle(
    nats_server: NatsServer, control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path
) -> None:
    owners = [await replica_set(kubectl, f"web-{number}") for number in range(OWNERS)]
    decisions = [
        now_decided(kubectl, number, ago=600 - number * 0.5, owner=owners[number % OWNERS])
        for number in range(DECISIONS - OWNERS)
    ]
    last = [now_rejected(kubectl, DECISIONS + number, owner=owner) for number, owner in enumerate(owners)]
    async with (
        connected(nats_server) as events,
        audit_writer(tmp_path, nats_server, control_plane, kubectl.namespace) as one,
        audit_writer(tmp_path, nats_server, control_plane, kubectl.namespace),
    ):
        await publish(events, *decisions[:300])
        await control_plane.apiserver.stop()
        try:
            away = asyncio.create_task(asyncio.sleep(AWAY))  # the fault's length, nothing is waited for
            await publish(events, *decisions[300:700])
            one.kill()
            await away
        finally:
            await control_plane.apiserver.start()
        await publish(events, *decisions[700:], *last)
        await settled(events, within=100)
    audits = {each["metadata"]["name"]: each for each in await kubectl.get("audits")}
    assert audits.keys() == {owner_audit_name(owner) for owner in owners}
    for owner, decision in zip(owners, last, strict=True):
        found = audits[owner_audit_name(owner)]
        assert [each["uid"] for each in found["metadata"]["ownerReferences"]] == [owner.uid]
        assert (found["status"]["decision"]["id"], found["status"]["state"]) == (decision.id, "rejected")
        assert {each["state"] for each in found["status"]["transitions"]} == {"admitted", "rejected"}
