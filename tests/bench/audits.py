"""The audit-writer: how fast it takes events of which one in a hundred is about a new workload, and how fast it writes Audits.

Beside the writes a bare loop of server-side applies of the same Audits, as many at once, through the same client library: what the
API server and etcd take here; and one of the four calls that a new Audit takes with its promises kept. The audit-writer's own bound (50 writes a second) is lifted for it.
"""

import asyncio
import itertools
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from deploy.dev.controlplane import ControlPlane
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.services import ROOT
from services.audit_writer.folds import WRITERS
from shared import contracts, subjects
from shared.contracts import AdmissionDecided
from shared.crds import audits_path
from tests.audit_writer.decisions import claim, decision
from tests.bench import processes
from tests.bench.figures import Figure, at_least, figure, ratios
from tests.bench.session import Rounds, Sample, Session, interleaved
from tests.bench.stage import Stage, stage
from tests.support.api import Api

_EVENTS, _A_WORKLOAD = 20_000, 100
"""Of a run, and of each workload."""

_AUDITS = 400
_WITHIN = 300.0
_APPLY = "application/apply-patch+yaml"


async def run(session: Session) -> Sequence[Figure]:
    """Events, Audits, and the bare loop."""
    async with _scene(session) as scene:
        await scene.audits(session.size(_AUDITS) // 4)
        rounds = await interleaved(
            session,
            {
                "events": lambda: scene.events(session.size(_EVENTS)),
                "audits": lambda: scene.audits(session.size(_AUDITS)),
                "bare": lambda: scene.bare(session.size(_AUDITS)),
                "same": lambda: scene.same_calls(session.size(_AUDITS)),
            },
        )
    return _figures(rounds)


def _figures(rounds: Rounds) -> list[Figure]:
    written, bare, same = (rounds.of(name, "rate") for name in ("audits", "bare", "same"))
    return [
        figure("audits: written / bare applies", "ratio", ratios(written, bare), at_least(0.7)),
        figure("audits: written / a bare loop of the same four calls", "ratio", ratios(written, same)),
        figure("audits: a bare loop of the same four calls / bare applies", "ratio", ratios(same, bare)),
        figure("audits: written", "1/s", written),
        figure("audits: bare applies", "1/s", bare),
        figure("audits: events with 1 % distinct owners", "1/s", rounds.of("events", "rate")),
        figure("audits: CPU an event", "ms", rounds.of("events", "cpu")),
        figure("audits: CPU an Audit", "ms", rounds.of("audits", "cpu")),
    ]


@dataclass(kw_only=True)
class _Scene:
    """NATS, an API server and one audit-writer."""

    stand: Stage
    api: Api
    writer: Process
    namespace: str
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count, init=False)

    async def events(self, count: int) -> Sample:
        """Events a second until all are acknowledged, and milliseconds of CPU for one."""
        owners = await self._owners(count // _A_WORKLOAD)
        found = [self._decision(owners[number % len(owners)]) for number in range(count)]
        return await self._taken(found, count)

    async def audits(self, count: int) -> Sample:
        """The same with a workload of its own for each: Audits."""
        found = [self._decision(owner) for owner in await self._owners(count)]
        return await self._taken(found, count)

    async def bare(self, count: int) -> Sample:
        """Applies a second of Audits such as were written."""
        plain = await self._written()

        async def apply(name: str) -> None:
            await self._apply(name, plain)

        return await self._at_once(apply, [f"bare-{next(self._numbers)}" for _ in range(count)])

    async def same_calls(self, count: int) -> Sample:
        """Audits a second by the calls of a new one and nothing else: its owner and its name are read, then the Audit is
        created without its owner, and applied with it."""
        plain = await self._written()
        owners = {owner.name: owner for owner in await self._owners(count)}

        async def make(owned: str) -> None:
            owner = owners[owned]
            found = f"/apis/apps/v1/namespaces/{self.namespace}/replicasets/{owner.name}"
            name = f"same-{owner.name}"
            await self.api.ok("GET", found)
            assert (await self.api.send("GET", self._path(name))).status == 404
            body = {**plain, "metadata": {**plain["metadata"], "name": name}}
            await self.api.ok("POST", audits_path(self.namespace), body)
            reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner.name, "uid": owner.uid}
            await self._apply(name, plain, ownerReferences=[reference])

        return await self._at_once(make, list(owners))

    async def _written(self) -> dict[str, Any]:
        """An Audit such as the writer makes, without a name and an owner."""
        [written] = (await self.api.ok("GET", f"{audits_path(self.namespace)}?limit=1"))["items"]
        return {
            "apiVersion": "security.banzaicloud.com/v1alpha1",
            "kind": "Audit",
            "metadata": {"namespace": self.namespace, "labels": written["metadata"]["labels"]},
            "spec": written["spec"],
            "status": written["status"],
        }

    async def _apply(self, name: str, plain: dict[str, Any], **metadata: Any) -> None:
        body = {**plain, "metadata": {**plain["metadata"], "name": name, **metadata}}
        path = f"{self._path(name)}?fieldManager=bench&force=true"
        await self.api.ok("PATCH", path, body, content_type=_APPLY)

    def _path(self, name: str) -> str:
        return f"{audits_path(self.namespace)}/{name}"

    @staticmethod
    async def _at_once(make: Callable[[str], Awaitable[None]], names: list[str]) -> Sample:
        left = iter(names)

        async def work() -> None:
            for name in left:
                await make(name)

        began = time.monotonic()
        await asyncio.gather(*(work() for _ in range(WRITERS)))
        return {"rate": len(names) / (time.monotonic() - began)}

    async def _taken(self, found: list[AdmissionDecided], count: int) -> Sample:
        """All are in the stream before the first is taken: the writer stands still until then."""
        self.writer.pause()
        await self._publish(found)
        cpu, began = processes.cpu_seconds(self.writer.pid), time.monotonic()
        self.writer.resume()
        await self._until_taken()
        taken = time.monotonic() - began
        cpu = processes.cpu_seconds(self.writer.pid) - cpu
        return {"rate": count / taken, "cpu": cpu / count * 1000}

    async def _publish(self, found: list[AdmissionDecided]) -> None:
        stream = self.stand.broker.client.jetstream(publish_async_max_pending=512)
        subject = subjects.decision_subject(self.namespace)
        pending = [
            await stream.publish_async(
                subject, contracts.encode(each), wait_stall=30, headers={"Nats-Msg-Id": each.id}
            )
            for each in found
        ]
        await asyncio.wait_for(asyncio.gather(*pending), 60)

    async def _until_taken(self) -> None:
        async with asyncio.timeout(_WITHIN):
            while True:
                info = await self.stand.broker.jetstream.consumer_info(subjects.EVENTS, subjects.AUDIT_WRITER)
                if not info.num_pending and not info.num_ack_pending:
                    return
                await asyncio.sleep(0.02)

    async def _owners(self, count: int) -> list[contracts.OwnerClaim]:
        """ReplicaSets without Pods."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/replicasets"
        found: list[contracts.OwnerClaim] = []
        names = iter([f"owner-{next(self._numbers)}" for _ in range(count)])

        async def create() -> None:
            for name in names:
                made = await self.api.ok("POST", path, replica_set(name))
                found.append(claim(name, uid=made["metadata"]["uid"]))

        await asyncio.gather(*(create() for _ in range(WRITERS)))
        return found

    def _decision(self, owner: contracts.OwnerClaim) -> AdmissionDecided:
        number = next(self._numbers)
        return msgspec.structs.replace(
            decision(number, owner=owner),
            id=f"bench-{number}",
            namespace=self.namespace,
            decided_at=datetime.now(UTC),
            pod_name=f"{owner.name}-{number}",
        )


def replica_set(name: str) -> dict[str, Any]:
    """One that makes no Pods."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }


@asynccontextmanager
async def _scene(session: Session) -> AsyncIterator[_Scene]:
    plane = await session.plane()
    async with stage(session, "audits") as stand, AsyncExitStack() as stack:
        api = await stack.enter_async_context(Api(plane.kubeconfig()))
        namespace = f"bench-{secrets.token_hex(3)}"
        await api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        writer = _writer(plane, stand, namespace)
        await stack.enter_async_context(writer)
        yield _Scene(stand=stand, api=api, writer=writer, namespace=namespace)


def _writer(plane: ControlPlane, stand: Stage, namespace: str) -> Process:
    port = free_port()
    return Process(
        name="audit-writer",
        argv=[sys.executable, "-m", "tests.bench.unbounded_audit_writer"],
        log=stand.folder / "audit-writer.log",
        ready=answers_ok(f"http://127.0.0.1:{port}/readyz"),
        ready_within=60,
        stop_within=30,
        env={
            "KUBECONFIG": str(plane.kubeconfig()),
            "MOORGATE_NAMESPACE": namespace,
            "MOORGATE_NATS_URL": stand.nats.url,
            "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{port}",
        },
        cwd=ROOT,
    )
