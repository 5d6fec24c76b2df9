"""Slow images hold up nobody else: with the default controller manager, under its own name and another.

Ten Deployments and three DaemonSets of images under a 30 s analysis fill the controllers' few workers if
anything can; then a Deployment and a DaemonSet of known images must have their Pods within 5 s, the
slow ones within twice the analysis and 5 s. Both control planes run at the same time.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from deploy.dev.stack import CRDS
from tests.support.kube import require_binaries
from tests.support.road import WatchedRoad, pod, until

ANALYSIS = 30
KNOWN = "nginx:1.25"
SLOW_DEPLOYMENTS, SLOW_DAEMON_SETS = 10, 3

KNOWN_WITHIN = 5.0
"""Seconds in which known images have their Pods beside slow ones; on a machine that is slow by itself, thrice what it took before."""


@pytest.mark.cluster
@pytest.mark.long
@pytest.mark.timeout(400)
async def test_slow_images_hold_up_nobody(tmp_path: Path) -> None:
    require_binaries()
    names = ("system:kube-controller-manager", "controllers")
    await asyncio.gather(
        *(_nobody_is_held_up(tmp_path / str(number), name) for number, name in enumerate(names))
    )


async def _nobody_is_held_up(folder: Path, controllers: str) -> None:
    async with _road(folder, controllers) as road:
        kube = await road.namespace()
        await kube.create(pod("known", KNOWN))
        alone = await _time_of_known(kube, "early")
        started = time.monotonic()
        slow = [f"deployment/slow-{number}" for number in range(SLOW_DEPLOYMENTS)]
        slow += [f"daemonset/slow-{number}" for number in range(SLOW_DAEMON_SETS)]
        await kube.create({"apiVersion": "v1", "kind": "List", "items": [_slow(name) for name in slow]})
        await until(lambda: _are_put_off(road), "the slow ones are put off")
        assert await _time_of_known(kube, "quick") < max(KNOWN_WITHIN, 3 * alone)
        assert not await _have_pods(kube, slow), "the analysis was over before anybody could be held up"
        left = 2 * ANALYSIS + 5 - (time.monotonic() - started)
        await until(lambda: _have_pods(kube, slow), "the slow ones have their Pods", left)


async def _time_of_known(kube: Kubectl, name: str) -> float:
    """Seconds until workloads of a known image have their Pods."""
    began = time.monotonic()
    await kube.create(_workload("Deployment", name, KNOWN), _workload("DaemonSet", name, KNOWN))
    await until(lambda: _have_pods(kube, [f"deployment/{name}", f"daemonset/{name}"]), "known images", 60)
    return time.monotonic() - began


@asynccontextmanager
async def _road(folder: Path, controllers: str) -> AsyncIterator[WatchedRoad]:
    plane = ControlPlane(folder=folder / "plane", controller_manager_user=controllers, crds=CRDS)
    async with plane:
        road = WatchedRoad(plane=plane, folder=folder / "road")
        await road.start()
        try:
            yield road
        finally:
            await road.stop()


async def _are_put_off(road: WatchedRoad) -> bool:
    deferred = 'moorgate_admission_requests_total{action="deferred",operation="CREATE",resource="Pod"}'
    return await road.metric("gateway-0", deferred) >= SLOW_DEPLOYMENTS + SLOW_DAEMON_SETS


async def _have_pods(kube: Kubectl, workloads: list[str]) -> bool:
    """Whether each has a Pod: of a Deployment one replica, of a DaemonSet one a node."""
    pods = await kube.get("pods")
    names = {each["metadata"].get("labels", {}).get("app") for each in pods}
    return {workload.replace("/", "-") for workload in workloads} <= names


def _slow(name: str) -> dict[str, Any]:
    kind, _, short = name.partition("/")
    image = f"registry.example/slow/{kind}-{short}:1"
    return _workload("Deployment" if kind == "deployment" else "DaemonSet", short, image)


def _workload(kind: str, name: str, image: str) -> dict[str, Any]:
    labels = {"app": f"{kind.lower()}-{name}"}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
        },
    }
