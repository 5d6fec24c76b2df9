"""Two gateways, and what may go away beneath them: each other, NATS, the API server, the peace of a namespace."""

import asyncio
import itertools
import json
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.registration import webhook_configurations
from deploy.dev.road import WEBHOOKS
from deploy.dev.services import ROOT
from tests.support.api import MERGE, POLICIES, WHITELIST, Api, image_policy, whitelist_item
from tests.support.builders import review
from tests.support.proxies import Service, Throttle
from tests.support.road import WatchedRoad, audit, pod, until

GOOD, BAD = "nginx:1.25", "registry.example/bad/resilience:1"
GATEWAYS = ("gateway-0", "gateway-1")
PODS = 200
PACE, EASE = 0.03, 0.1
"""Seconds between two Pods of the load, and once there are enough of them while the restart goes on."""

PATIENCE = 1.0
IMPATIENT = f"""
import sys
from services.gateway import mirrors
mirrors.MIRROR_PATIENCE = {PATIENCE}
from services.gateway.__main__ import main
sys.exit(main())
"""
"""The gateway, waiting for its verdicts for a moment only."""


@dataclass
class Asked:
    """What a gateway said."""

    is_allowed: bool
    code: int
    source: str


class Pair(WatchedRoad):
    """A road with two gateways, each of which can be asked by itself."""

    async def ask(self, url: str, image: str, namespace: str = "shop", **labels: str) -> Asked:
        """What the gateway at `url` answers to a new Pod."""
        new = pod("asked", image, labels=labels)
        body = review(new, namespace=namespace, dryRun=True)
        tls = ssl.create_default_context(cafile=self.services.ca)
        async with aiohttp.ClientSession() as session, session.post(url, json=body, ssl=tls) as answer:
            response = (await answer.json())["response"]
        return Asked(
            response["allowed"],
            response.get("status", {}).get("code", 200),
            response["auditAnnotations"]["source"],
        )

    async def both(self, image: str, namespace: str = "shop", **labels: str) -> list[Asked]:
        """What each gateway answers."""
        urls = [self.services.webhook_url(name) for name in GATEWAYS]
        return list(await asyncio.gather(*(self.ask(url, image, namespace, **labels) for url in urls)))

    async def both_know(self, image: str) -> None:
        """Wait until both answer for the image without asking anybody."""

        async def know() -> bool:
            return all(each.source == "memory" and each.code in (200, 403) for each in await self.both(image))

        await until(know, f"both gateways know {image}")

    @asynccontextmanager
    async def door(self, port: int) -> AsyncIterator[dict[str, str]]:
        """The API server asks at this port for the namespaces of the label it gives."""
        name = f"door-{secrets.token_hex(4)}"
        url = self.services.webhook_url().replace(str(self.services.ports["gateway-0/webhook"]), str(port))
        label = {"test/door": name}
        body, _ = webhook_configurations(name, url, self.services.ca, {"matchLabels": label})
        async with self.api() as api:
            await api.ok("POST", WEBHOOKS, body)
            try:
                yield label
            finally:
                await api.ok("DELETE", f"{WEBHOOKS}/{name}-pods")

    def another(self, folder: Path, *program: str, **settings: str) -> tuple[Process, int, str]:
        """One more gateway: the process, its webhook's port and the URL of its probes."""
        port, probes = free_port(), free_port()
        base = self.services.processes["gateway-0"]
        process = Process(
            name="another",
            argv=[sys.executable, *program],
            log=folder / "another.log",
            ready=answers_ok(f"http://127.0.0.1:{probes}/readyz"),
            stop_within=30,
            cwd=ROOT,
            env={
                **(base.env or {}),
                "MOORGATE_LISTEN": f"127.0.0.1:{port}",
                "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{probes}",
                "MOORGATE_OUTBOX_DIR": str(folder / "outbox"),
                **settings,
            },
        )
        self.services.ports["another"] = probes
        return process, port, f"http://127.0.0.1:{probes}"


@pytest.fixture(scope="module")
def pair(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        folder = tmp_path_factory.mktemp("pair")
        road = Pair(plane=control_plane, folder=folder, replicas={"gateway": len(GATEWAYS)})
        runner.run(road.start())
        try:
            yield road
        finally:
            runner.run(road.stop())


@pytest.fixture
async def api(pair: Pair) -> AsyncIterator[Api]:
    async with pair.api() as connection:
        yield connection


@asynccontextmanager
async def namespace(api: Api, **labels: str) -> AsyncIterator[str]:
    """A namespace with these labels and no others."""
    name = f"res-{secrets.token_hex(4)}"
    await api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        await api.ok("DELETE", f"/api/v1/namespaces/{name}")


async def within(seconds: float, is_so: Callable[[], Awaitable[object]]) -> None:
    """It is so before the time is up."""
    started = time.monotonic()
    await until(is_so, "in time", seconds + 5)
    assert time.monotonic() - started < seconds


async def test_an_item_counts_on_every_gateway_within_a_second_and_no_longer(pair: Pair, api: Api) -> None:
    await pair.both_know(BAD)
    release = f"res-{secrets.token_hex(4)}"
    path = f"{WHITELIST}/{release}"

    async def counts() -> bool:
        return all(each.is_allowed for each in await pair.both(BAD, release=release))

    async def counts_nowhere() -> bool:
        return not any(each.is_allowed for each in await pair.both(BAD, release=release))

    async def change(**spec: Any) -> None:
        await api.ok("PATCH", path, {"spec": spec}, content_type=MERGE)

    assert await counts_nowhere()
    await api.ok("POST", WHITELIST, whitelist_item(release, namespaces=["shop"]))
    await within(1, counts)
    await change(namespaces=["elsewhere"])
    await within(1, counts_nowhere)
    end = datetime.now(UTC) + timedelta(seconds=1)
    await change(namespaces=["shop"], expiresAt=end.isoformat())
    await within(1, counts)
    await until(counts_nowhere, "the item has expired", seconds=3)
    over = (datetime.now(UTC) - end).total_seconds()
    assert 0 <= over < 1
    await change(expiresAt=None)
    await within(1, counts)
    await api.ok("DELETE", path)
    await within(1, counts_nowhere)


async def test_a_rolling_restart_under_load_loses_no_admission_and_no_record(pair: Pair, api: Api) -> None:
    await pair.both_know(GOOD)
    services = pair.services
    backends = {services.ports[f"{name}/webhook"]: f"{services.probes_url(name)}/readyz" for name in GATEWAYS}
    service = Service(backends)
    restarted = asyncio.Event()

    async def restart() -> None:
        for name in GATEWAYS:

            async def both_are_ready() -> bool:
                return len(service.ready) == len(GATEWAYS)

            await until(both_are_ready, "a rollout goes on when the new Pod is ready")
            service.leaving = services.ports[f"{name}/webhook"]
            await services.processes[name].restart()
            service.leaving = None
        restarted.set()

    async with service.running() as port, pair.door(port) as label, namespace(api, **label) as name:
        admissions: list[asyncio.Task[Any]] = []
        restarting = asyncio.create_task(restart())
        for number in itertools.count():
            if restarted.is_set() and number >= PODS:
                break
            manifest = pod(f"p{number}", GOOD, schedulerName="nobody")
            admissions.append(asyncio.create_task(api.create_pod(name, manifest)))
            await asyncio.sleep(PACE if number < PODS else EASE)  # the pace of the load
        await restarting
        replies = await asyncio.gather(*admissions)
        lost = [
            (number, each.status, each.message) for number, each in enumerate(replies) if each.status != 201
        ]
        assert not lost
        kube = Kubectl(pair.plane, name)

        async def are_recorded() -> bool:
            return len(await kube.get("audits")) == len(replies)

        await until(are_recorded, "every Pod has its Audit", seconds=30)


async def test_200_pods_in_a_namespace_nobody_has_seen_yet(pair: Pair, api: Api, tmp_path: Path) -> None:
    """`off` everywhere but where the label says otherwise: a gateway that guesses would let all of them in."""
    await pair.both_know(BAD)
    open_house = f"res-{secrets.token_hex(4)}"
    unless = {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["enforce"]}]}
    throttle = Throttle(pair.plane.port, is_open=False)
    async with throttle.running() as port:
        config = tmp_path / "throttled"
        config.write_text(_elsewhere(pair.plane.kubeconfig(), port))
        process, door, probes = pair.another(tmp_path, "-m", "services.gateway", KUBECONFIG=str(config))
        process.launch()
        try:
            await until(answers_ok(f"{probes}/healthz"), "it lives without the API server")
            assert not await process.ready(), "ready without whitelist, policies and namespaces"
            throttle.is_open = True
            await process.wait_until_ready()
            await api.ok("POST", POLICIES, image_policy(open_house, mode="off", namespaceSelector=unless))
            async with pair.door(door) as label:
                await _open_house_is_in_force(api, label)
                for delay in (0.05, 30.0):
                    throttle.delay = delay
                    async with namespace(api, **label, tier="enforce") as name:
                        tries = (api.create_pod(name, pod(f"p{n}", BAD), dry_run=True) for n in range(PODS))
                        replies = await asyncio.gather(*tries)
                    assert {each.status for each in replies} == {403}, f"answers {delay} s late"
        finally:
            await process.stop()
            await api.send("DELETE", f"{POLICIES}/{open_house}")


async def test_a_flood_of_made_up_images_delays_no_other_namespace(pair: Pair, api: Api) -> None:
    image = "registry.example/bulk/calm:1"
    await pair.tell_anchore("preload", reference=image)
    before = await pair.metric("gateway-0", "moorgate_scans_put_back_total")
    noisy, calm = await pair.namespace(), await pair.namespace()
    flood = [
        asyncio.create_task(
            api.create_pod(noisy.namespace, pod(f"p{n}", f"registry.example/made-up/{n}:1"), dry_run=True)
        )
        for n in range(300)
    ]
    await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
    started = time.monotonic()
    reply = await api.create_pod(calm.namespace, pod("calm", image))
    took = time.monotonic() - started
    assert reply.status == 201, reply.message
    assert took < 3
    statuses = {each.status for each in await asyncio.gather(*flood)}
    assert statuses <= {429, 503}
    assert await pair.metric("gateway-0", "moorgate_scans_put_back_total") - before >= 240
    for kube in (noisy, calm):
        await api.ok("DELETE", f"/api/v1/namespaces/{kube.namespace}")


async def test_nats_goes_away_and_comes_back(pair: Pair, api: Api, tmp_path: Path) -> None:
    await asyncio.gather(pair.both_know(GOOD), pair.both_know(BAD))
    kube = await pair.namespace()
    new, later = (f"registry.example/bulk/nats-{name}:1" for name in ("away", "back"))
    for image in (new, later):
        await pair.tell_anchore("preload", reference=image)
    started = time.monotonic()
    process, port, _ = pair.another(tmp_path, "-c", IMPATIENT)
    url = pair.services.webhook_url().replace(str(pair.services.ports["gateway-0/webhook"]), str(port))
    degraded = 'moorgate_degraded{part="verdicts"}'
    pair.nats.process.kill()
    try:
        await process.start()
        assert time.monotonic() - started >= PATIENCE
        assert await pair.metric("another", degraded) == 1
        assert (await pair.ask(url, GOOD)).code == 503, "a gateway without verdicts lets nothing in"
        assert [each.code for each in await pair.both(GOOD)] == [200, 200]
        assert [each.code for each in await pair.both(BAD)] == [403, 403]
        assert [each.code for each in await pair.both(new)] == [503, 503]
        assert (await api.create_pod(kube.namespace, pod("unrecorded", GOOD))).status == 201
        await pair.nats.start()

        async def are_right() -> bool:
            answers = [await pair.ask(url, GOOD), *await pair.both(later)]
            return all(each.is_allowed and each.source == "memory" for each in answers)

        await within(10, are_right)
        assert (await pair.ask(url, BAD)).code == 403
        assert await pair.metric("another", degraded) == 0
        await audit(kube, "pod-unrecorded")
    finally:
        await process.stop()
        if not pair.nats.process.is_running:
            await pair.nats.start()
    await api.ok("DELETE", f"/api/v1/namespaces/{kube.namespace}")


async def test_the_api_server_restarts_and_the_watches_go_on(pair: Pair, api: Api) -> None:
    await asyncio.gather(pair.both_know(GOOD), pair.both_know(BAD))
    release = f"res-{secrets.token_hex(4)}"
    await pair.plane.apiserver.stop()
    try:
        assert [each.code for each in await pair.both(GOOD)] == [200, 200]
        assert [each.code for each in await pair.both(BAD)] == [403, 403]
        assert all([await answers_ok(f"{pair.services.probes_url(name)}/readyz")() for name in GATEWAYS])
    finally:
        await pair.plane.apiserver.start()
    await api.ok("POST", WHITELIST, whitelist_item(release, namespaces=["shop"]))

    async def are_told() -> bool:
        return all(each.is_allowed for each in await pair.both(BAD, release=release))

    await within(10, are_told)
    await api.ok("DELETE", f"{WHITELIST}/{release}")


async def _open_house_is_in_force(api: Api, label: dict[str, str]) -> None:
    async with namespace(api, **label) as name:

        async def is_open() -> bool:
            return (await api.create_pod(name, pod("any", BAD), dry_run=True)).status == 201

        await until(is_open, "the policy is in force")


def _elsewhere(kubeconfig: Path, port: int) -> str:
    config = json.loads(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    return json.dumps(config)
