"""The real audit-writer between a real NATS and a real API server, and how the tests look at its Audits.

`running()` starts the service in this process; `eventually()` is the one place where its tests wait.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.js.api import ConsumerInfo
from prometheus_client import CollectorRegistry

from deploy.dev.nats import NatsServer
from services.audit_writer import app, config
from shared import streams, subjects
from shared.broker import Broker, BrokerSettings, open_broker
from shared.contracts import Action, AdmissionDecided, Outcome, OwnerClaim
from shared.metrics import CommonMetrics
from tests.audit_writer.decisions import decision, image
from tests.support.kube import Kubectl

COLLECTED_WITHIN = 20.0
"""Seconds the garbage collector gets."""

Start = Callable[..., AbstractAsyncContextManager[None]]
"""`running` on the test's NATS; keywords are settings."""


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Broker]:
    """A connection to NATS with Moorgate's streams, the events of earlier tests gone."""
    settings = BrokerSettings(url=server.url)
    async with open_broker(settings, "moorgate/test", CommonMetrics(CollectorRegistry())) as broker:
        await asyncio.wait_for(broker.connected(), 10)
        await streams.apply(broker, 1)
        await broker.jetstream.purge_stream(subjects.EVENTS)
        yield broker


@asynccontextmanager
async def running(server: NatsServer, **settings: str) -> AsyncIterator[None]:
    """The service, for the cluster of KUBECONFIG, while the context is open."""
    environment = {
        "MOORGATE_NATS_URL": server.url,
        "MOORGATE_METRICS_LISTEN": "127.0.0.1:0",
        **settings,
    }
    stop = asyncio.Event()
    service = asyncio.create_task(app.run(config.load(environment), stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(service, 15)


async def eventually(what: str, check: Callable[[], Awaitable[Any]], within: float = 45.0) -> Any:
    """The first true answer of `check`; the one place where these tests wait."""
    deadline = asyncio.get_running_loop().time() + within
    while not (answer := await check()):
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"not within {within:g} s: {what}")
        await asyncio.sleep(0.1)
    return answer


async def publish(broker: Broker, *decisions: AdmissionDecided) -> None:
    for each in decisions:
        await broker.publish(subjects.decision_subject(each.namespace), each, each.id)


async def settled(broker: Broker, within: float = 45.0) -> None:
    """Every event is taken and acknowledged."""

    async def nothing_left() -> bool:
        # A consumer hears of a stored message a moment after its publisher: nothing pending proves nothing.
        stored = (await broker.jetstream.stream_info(subjects.EVENTS)).state.last_seq
        info: ConsumerInfo = await broker.jetstream.consumer_info(subjects.EVENTS, subjects.AUDIT_WRITER)
        done = info.ack_floor.stream_seq if info.ack_floor else 0
        return done >= stored and not info.num_ack_pending

    await eventually("all decisions are settled", nothing_left, within)


async def audit(kubectl: Kubectl, name: str) -> dict[str, Any] | None:
    answer = await kubectl.run("get", "audit", name, "-o", "json")
    return json.loads(answer.stdout) if answer.code == 0 else None


async def bound(kubectl: Kubectl, name: str, uid: str, within: float = 45.0) -> dict[str, Any]:
    """The Audit, once it is owned by `uid` alone."""

    async def owned() -> dict[str, Any] | None:
        found = await audit(kubectl, name)
        return found if found and owner_uids(found) == [uid] else None

    found: dict[str, Any] = await eventually(f"{name} is owned by {uid}", owned, within)
    return found


async def is_gone(kubectl: Kubectl, *target: str, within: float = 45.0) -> None:
    async def gone() -> bool:
        return not await kubectl.ok("get", *target, "--ignore-not-found", "-o", "name")

    await eventually(f"{target} is gone", gone, within)


def owner_uids(found: dict[str, Any]) -> list[str]:
    return [each["uid"] for each in found["metadata"].get("ownerReferences", [])]


def conditions(found: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each["reason"] for each in found["status"]["conditions"]}


async def replica_set(kubectl: Kubectl, name: str = "web-5cd466fccb") -> OwnerClaim:
    """A ReplicaSet that makes no Pods of its own."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    await kubectl.create(
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": spec}
    )
    uid = (await kubectl.get("replicaset", name))["metadata"]["uid"]
    return OwnerClaim(api_version="apps/v1", kind="ReplicaSet", name=name, uid=uid)


async def pod(kubectl: Kubectl, name: str, **metadata: Any) -> str:
    """A Pod; gives its uid."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]},
    }
    made = await kubectl.ok("create", "-f", "-", "-o", "jsonpath={.metadata.uid}", stdin=manifest)
    return made.strip()


def now_decided(kubectl: Kubectl, number: int = 1, *, ago: float = 0.0, **changes: Any) -> AdmissionDecided:
    """An allowed decision in the test's namespace, taken just now; the stream takes an id only once."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    own = {"id": f"{kubectl.namespace}-{number}", "namespace": kubectl.namespace, "decided_at": at}
    return decision(number, **{**own, **changes})


def now_rejected(kubectl: Kubectl, number: int = 1, **changes: Any) -> AdmissionDecided:
    """A rejected decision, likewise."""
    failing = {"action": Action.REJECTED, "code": 403, "images": (image(outcome=Outcome.FAIL),)}
    return now_decided(kubectl, number, **{**failing, **changes})
