"""Through the real API server: Pods created with Moorgate registered, with a webhook that does nothing, and with none.

Every round registers one of them after the other; each run is a dry run and one for real, sixteen Pods at once. Whose
turn it is is found out, not hoped for: a run begins when the API server comes by, and it must have come by for each Pod.
The Pods are removed between the runs, outside the measured time, whoever was registered.

Moorgate is a gateway and an audit-writer, whose Audit of the Pods' ReplicaSet is written meanwhile, as in a cluster.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from deploy.dev.controlplane import ControlPlane
from deploy.dev.registration import webhook_configurations
from deploy.dev.services import Services
from tests.bench import bucket_filling, pod_load, processes, webhook_load, webhooks
from tests.bench.audits import replica_set
from tests.bench.figures import Figure, at_least, at_most, figure, ratios
from tests.bench.session import Rounds, Sample, Session, interleaved
from tests.bench.stage import stage
from tests.bench.webhooks import WebhookProcess
from tests.support.api import Api, pods
from tests.support.scanners import metrics

ROUNDS = 10
"""At least: what an API server and etcd take varies more than what a webhook does."""

PODS = 500
"""Of one mode in a run."""

_WITHIN = 60.0
_ASKED = "moorgate_admission_requests_total"
_HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
MODES = {"dry": True, "real": False}


async def run(session: Session) -> Sequence[Figure]:
    """Paired ratios, and what it costs whom."""
    async with _scene(session) as scene:
        sides = {side.name: partial(scene.measure, side) for side in scene.sides}
        for each in sides.values():
            await each()  # unmeasured: connections, caches, the Audit
        rounds = await interleaved(session, sides, session.at_least(ROUNDS))
    return [each for mode in MODES for each in _figures(rounds, mode)]


def _figures(rounds: Rounds, mode: str) -> list[Figure]:
    of = {
        side: {
            name: rounds.of(side, f"{mode} {name}")
            for name in ("rate", "p50", "p99", "cpu", "apiserver_cpu", "other_cpu")
        }
        for side in rounds.samples
    }
    moorgate, nothing, none = of["moorgate"], of["do-nothing"], of["none"]
    how = {"dry": "dry run", "real": "for real"}[mode]
    over = [a - b for a, b in zip(moorgate["p50"], nothing["p50"], strict=True)]
    found = [
        figure(
            f"apiserver: Pods {how}, Moorgate / do-nothing webhook",
            "ratio",
            ratios(moorgate["rate"], nothing["rate"]),
            at_least(0.90),
        ),
        figure(f"apiserver: Pods {how}, p50 over the do-nothing webhook's", "ms", over, at_most(3)),
        figure(
            f"apiserver: Pods {how}, Moorgate / no webhook", "ratio", ratios(moorgate["rate"], none["rate"])
        ),
        figure(
            f"apiserver: Pods {how}, do-nothing webhook / none",
            "ratio",
            ratios(nothing["rate"], none["rate"]),
        ),
        figure(f"apiserver: Pods {how}, gateway's CPU per 1,000", "s", moorgate["cpu"]),
        figure(f"apiserver: Pods {how}, audit-writer's and NATS' CPU per 1,000", "s", moorgate["other_cpu"]),
        figure(f"apiserver: Pods {how}, do-nothing webhook's CPU per 1,000", "s", nothing["cpu"]),
    ]
    for side, quantities in of.items():
        found += [
            figure(f"apiserver: Pods {how}, {side}, throughput", "1/s", quantities["rate"]),
            figure(f"apiserver: Pods {how}, {side}, p50", "ms", quantities["p50"]),
            figure(f"apiserver: Pods {how}, {side}, p99", "ms", quantities["p99"]),
            figure(
                f"apiserver: Pods {how}, {side}, the API server's own CPU per 1,000",
                "s",
                quantities["apiserver_cpu"],
            ),
        ]
    return found


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One that can be registered; without a `url` nobody is."""

    name: str
    asked: Callable[[], Awaitable[int]]
    """How often the API server came by."""
    url: str = ""
    ca: Path = Path()
    pid: int = 0
    others: Sequence[int] = ()
    """Processes that work for it as well."""


@dataclass(kw_only=True)
class _Scene:
    """An API server with one namespace, and those who may be asked."""

    session: Session
    plane: ControlPlane
    api: Api
    namespace: str
    pod: Path
    sides: Sequence[_Side] = ()
    _run: int = field(default=0, init=False)

    async def measure(self, side: _Side) -> Sample:
        """Dry run and for real, one registration."""
        async with self._registered(side):
            sample: dict[str, float] = {}
            for mode, dry_run in MODES.items():
                found = await self._create(side, dry_run=dry_run)
                sample |= {f"{mode} {name}": value for name, value in found.items()}
                if not dry_run:
                    await self._clear()
            return sample

    async def _create(self, side: _Side, *, dry_run: bool) -> dict[str, float]:
        self._run += 1
        count, asked = self.session.size(PODS), await side.asked()
        watched = {"cpu": [side.pid], "apiserver_cpu": [self.plane.apiserver.pid], "other_cpu": side.others}
        before = {name: _cpu(pids) for name, pids in watched.items()}
        prefix = f"web-{self._run:04}"
        load = await pod_load.create(
            self.plane.kubeconfig(), self.namespace, self.pod, prefix=prefix, count=count, dry_run=dry_run
        )
        spent = {name: (_cpu(pids) - before[name]) / count * 1000 for name, pids in watched.items()}
        came_by = await side.asked() - asked
        if came_by != (count if side.url else 0):
            raise RuntimeError(f"{side.name} was asked {came_by} times about {count} Pods")
        return {"rate": load.requests / load.seconds, "p50": load.p50, "p99": load.p99, **spent}

    @asynccontextmanager
    async def _registered(self, side: _Side) -> AsyncIterator[None]:
        found = self._configurations(side) if side.url else []
        for each in found:
            await self.api.ok("POST", _HOOKS, each)
        await self._until_asked(side, is_asked=bool(side.url))
        try:
            yield
        finally:
            for each in found:
                await self.api.ok("DELETE", f"{_HOOKS}/{each['metadata']['name']}")
            for other in self.sides:
                await self._until_asked(other, is_asked=False)

    def _configurations(self, side: _Side) -> list[dict[str, Any]]:
        only_here = {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}
        return webhook_configurations(f"bench-{side.name}", side.url, side.ca, only_here)

    async def _until_asked(self, side: _Side, *, is_asked: bool) -> None:
        """The API server has seen what is registered now: twenty Pods in a row say so."""
        in_a_row, number = 0, 0
        async with asyncio.timeout(_WITHIN):
            while in_a_row < (20 if side.url and is_asked else 3):
                before = await side.asked()
                number += 1
                pod = self.pod.read_text().replace("@NAME@", f"probe-{number}")
                await self.api.ok("POST", f"{pods(self.namespace)}?dryRun=All", json.loads(pod))
                in_a_row = in_a_row + 1 if (await side.asked() > before) is is_asked else 0

    async def _clear(self) -> None:
        """No Pod is left, in the API server and in etcd alike."""
        await self.api.ok("DELETE", f"{pods(self.namespace)}?gracePeriodSeconds=0")
        async with asyncio.timeout(_WITHIN):
            while (await self.api.ok("GET", f"{pods(self.namespace)}?limit=1"))["items"]:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _scene(session: Session) -> AsyncIterator[_Scene]:
    plane = await session.plane()
    async with stage(session, "apiserver") as stand, AsyncExitStack() as stack:
        await bucket_filling.put_tenant(stand.broker)
        await bucket_filling.put_verdicts(stand.broker, webhook_load.images(), 0)
        api = await stack.enter_async_context(Api(plane.kubeconfig()))
        namespace = f"bench-{secrets.token_hex(3)}"
        await api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        owner = await api.ok(
            "POST", f"/apis/apps/v1/namespaces/{namespace}/replicasets", replica_set("web-84b9697b7d")
        )
        services = Services(
            folder=stand.folder / "services",
            nats_url=stand.nats.url,
            kubeconfig=plane.kubeconfig(),
            anchore_url="http://127.0.0.1:9",  # nobody: every verdict is known
            replicas={"scanner": 0},
        )
        await stack.enter_async_context(services)
        echo = webhooks.echo(stand.folder, webhooks.certificate(stand.folder))
        await stack.enter_async_context(echo)
        scene = _Scene(
            session=session,
            plane=plane,
            api=api,
            namespace=namespace,
            pod=pod_load.template(stand.folder, owner),
        )
        scene.sides = (_moorgate(services, stand.nats.process.pid), _do_nothing(echo, stand.folder), _NONE)
        yield scene


def _moorgate(services: Services, nats: int) -> _Side:
    async def asked() -> int:
        return round(sum((await metrics(services.ports["gateway-0"], _ASKED)).values()))

    found = services.processes
    return _Side(
        name="moorgate",
        asked=asked,
        url=services.webhook_url(),
        ca=services.ca,
        pid=found["gateway-0"].pid,
        others=(found["audit_writer-0"].pid, nats),
    )


def _do_nothing(echo: WebhookProcess, folder: Path) -> _Side:
    async def asked() -> int:
        async with aiohttp.ClientSession() as session, session.get(f"{echo.url}asked", ssl=False) as answer:
            return int(await answer.text())

    return _Side(name="do-nothing", asked=asked, url=echo.url, ca=folder / "ca.pem", pid=echo.pid)


async def _nobody() -> int:
    return 0


_NONE = _Side(name="none", asked=_nobody)


def _cpu(pids: Sequence[int]) -> float:
    return sum(processes.cpu_seconds(pid) for pid in pids if pid)
