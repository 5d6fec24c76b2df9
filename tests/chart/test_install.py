"""The chart, really installed: its Pods run as processes under exactly its own rights, on a real control plane.

One release from `helm install` to `helm uninstall`: what it serves, that the API server's audit log shows no right
refused and none unused, an upgrade under which nothing is held up, and the end of it with everything dead.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from deploy.dev import story
from deploy.dev.kubectl import Kubectl
from deploy.dev.story import BAD, GOOD
from tests.chart import installed_rights
from tests.chart.installed import PAGE, REGISTRIES, Installation, Silent, open_installation
from tests.chart.installed_scenes import (
    everything_that_rights_are_for,
    secrets_are_harmed,
    the_authority_is_made_anew,
    what_is_left,
)
from tests.support.api import Api
from tests.support.road import pod, until

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(600)]

HELM_WAITS = ("--wait", "--timeout", "120s")

VALUES: dict[str, Any] = {
    "gateway": {"replicas": 2},
    "scanner": {"failTTL": "1s"},
    "auditWriter": {"inventoryInterval": "2s", "rescanInterval": "2s", "reports": "openreports"},
    "page": {"enabled": True, "certificate": {"secretName": PAGE}},
    "bootstrap": {
        "anchore": {"adminSecret": "anchore-admin"},
        "registries": [{"namespace": REGISTRIES, "name": "login"}],
    },
}

CHANGED: dict[str, Any] = {
    "gateway": {**VALUES["gateway"], "maxWait": "2s"},
    "scanner": {**VALUES["scanner"], "pendingLimit": "20m"},
    "auditWriter": {**VALUES["auditWriter"], "auditRetention": "1s"},
}
"""Every service is rolled."""

STAYS = {
    "customresourcedefinition.apiextensions.k8s.io/audits.security.banzaicloud.com",
    "customresourcedefinition.apiextensions.k8s.io/imagepolicies.security.banzaicloud.com",
    "customresourcedefinition.apiextensions.k8s.io/whitelistitems.security.banzaicloud.com",
    "imagepolicy.security.banzaicloud.com/nowhere",
    "whitelistitem.security.banzaicloud.com/legacy",
    "lease.coordination.k8s.io/moorgate-audit-writer",
    "lease.coordination.k8s.io/moorgate-gateway",
    "persistentvolumeclaim/data-moorgate-nats-0",
    "persistentvolumeclaim/data-moorgate-nats-1",
    "persistentvolumeclaim/data-moorgate-nats-2",
    "secret/moorgate-anchore",
    "secret/moorgate-gateway-tls",
}
"""After `helm uninstall`, on purpose: what people wrote, and the credentials and data that a new install goes on with."""


async def test_the_chart_is_installed_serves_is_upgraded_and_goes(tmp_path: Path) -> None:
    async with open_installation(tmp_path, VALUES) as installation:
        await installation.prepare()
        before = await what_is_left(installation)
        await installation.helm("install", *HELM_WAITS)
        await the_demo_comes_out(installation)
        await everything_that_rights_are_for(installation)
        await secrets_are_harmed(installation)
        async with nobody_is_held_up(installation):
            await installation.helm("upgrade", *HELM_WAITS, **CHANGED)
            await old_gateways_are_gone(installation)
        await old_records_go(installation)
        await the_authority_is_made_anew(installation)
        await every_right_is_used_and_none_is_missing(installation)
        await everything_dead_it_can_be_uninstalled(installation)
        left = await what_is_left(installation) - before
        assert left == STAYS, f"left behind: {sorted(left - STAYS)}; gone: {sorted(STAYS - left)}"


async def the_demo_comes_out(installation: Installation) -> None:
    narrator = Silent()
    try:
        await story.tell(installation.cluster, narrator)
    except story.StoryError as error:
        said = "\n".join(narrator.said)
        raise AssertionError(f"{said}\n{error}\n{await installation.state()}") from error


async def every_right_is_used_and_none_is_missing(installation: Installation) -> None:
    rights = await installation.rights()
    assert rights, "no service account of the release has any right: nothing would be compared"
    complaints = installed_rights.complaints(rights, installation.calls())
    assert not complaints, "\n".join(["the chart's rights are not what the code uses:", *complaints])


@asynccontextmanager
async def nobody_is_held_up(installation: Installation) -> AsyncIterator[None]:
    """Pods are admitted and refused all the while, each at the first try."""
    wrong: list[str] = []
    asked = 0

    async def ask() -> None:
        nonlocal asked
        async with Api(installation.cluster.plane.kubeconfig()) as api:
            while True:
                for image, status in ((GOOD, 201), (BAD, 403)):
                    began = time.monotonic()
                    reply = await api.send(
                        "POST", "/api/v1/namespaces/shop/pods?dryRun=All", pod(f"asked-{asked}", image)
                    )
                    asked += 1
                    if reply.status != status:
                        wrong.append(
                            f"{image}: {reply.status} after {time.monotonic() - began:.1f} s: {reply.message}"
                        )
                await asyncio.sleep(0.1)  # the rate of the questions, not a wait for anything

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
    assert asked > 10
    assert not wrong, f"{len(wrong)} of {asked}: {wrong[:5]}"


async def old_gateways_are_gone(installation: Installation) -> None:
    """Helm waits for the new ones only; the old ones answer on for the seconds of their preStop."""
    kubectl = installation.kubectl()

    async def are_gone() -> bool:
        pods = await kubectl.get("pods", "-l", "app.kubernetes.io/component=gateway")
        return bool(len(pods) == VALUES["gateway"]["replicas"])

    await until(are_gone, "the gateways of before have stopped", 60)


async def old_records_go(installation: Installation) -> None:
    """The refused Pod's Audit belongs to nobody, and its retention is a second now."""
    shop = installation.kubectl("shop")

    async def is_gone() -> bool:
        return "pod-shop" not in {each["metadata"]["name"] for each in await shop.get("audits")}

    await until(is_gone, "the Audit of a refused Pod expires", 60)


async def everything_dead_it_can_be_uninstalled(installation: Installation) -> None:
    """With no gateway alive nobody could answer for a Pod, nor patch anything: Kubernetes alone cleans up."""
    await installation.cluster.kill_everything_installed()
    shop = installation.kubectl("shop")
    assert await refused(shop, GOOD), "no gateway is alive: Fail means that no Pod comes"
    await installation.helm("uninstall", "--wait", "--timeout", "60s")

    async def are_gone() -> bool:
        return not await shop.get(
            "validatingwebhookconfigurations", "-l", "app.kubernetes.io/part-of=moorgate"
        )

    await until(are_gone, "the webhook configurations are collected", 30)
    assert not await refused(shop, BAD), "nobody is asked any more"
    assert await shop.get("audits"), "records outlive the release"


async def refused(kubectl: Kubectl, image: str) -> str:
    """Why the Pod is not admitted; empty where it is."""
    answer = await kubectl.run("create", "--dry-run=server", "-f", "-", stdin=pod("late", image))
    return answer.stderr if answer.code else ""
