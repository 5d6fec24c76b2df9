"""Scans that fail, lag behind, lose their worker or find that the tag has moved: the admission ends right."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import nats
import pytest

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubeapi import ApiError, KubeApi
from deploy.dev.kubectl import Kubectl
from shared import contracts
from shared.contracts import ScanRequest
from shared.images import parse
from shared.subjects import Lane, scan_subject
from tests.support.road import WatchedRoad, pod, until

BUNDLE = "2c53a13c-1765-11e8-82ef-23527761d060"
"""The simulator's active bundle."""

TAG_TTL = 2
"""Seconds, for the road with short-lived tags."""


@pytest.fixture
async def hasty(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[WatchedRoad]:
    """A road where a verdict through a tag is fresh for a moment only."""
    settings = {"MOORGATE_TAG_TTL": f"{TAG_TTL}s", "MOORGATE_MAX_WAIT": "1s"}
    road = WatchedRoad(plane=control_plane, folder=tmp_path, settings=settings)
    await road.start()
    try:
        yield road
    finally:
        await road.stop()


async def test_an_image_whose_scan_failed_is_scanned_again_later(road: WatchedRoad, kube: Kubectl) -> None:
    image = "registry.example/broken/mended:1"
    answer = await kube.run("create", "-f", "-", stdin=pod("first", image))
    assert answer.code == 1
    assert "analysis_failed" in answer.stderr
    assert "ServiceUnavailable" in answer.stderr
    await road.tell_anchore("analysis", reference=image, fails=False)

    async def is_admitted() -> bool:
        return (await kube.run("create", "-f", "-", stdin=pod("second", image))).code == 0

    await until(is_admitted, "the image is scanned again", seconds=40)


async def test_a_rescan_in_the_queue_does_not_delay_an_admission(road: WatchedRoad, kube: Kubectl) -> None:
    image = "registry.example/bulk/in-both-lanes:1"
    await road.tell_anchore("preload", reference=image)
    others = [f"registry.example/bulk/rescan-{number}:1" for number in range(60)]
    for other in others:
        await road.tell_anchore("preload", reference=other)
    await road.tell_anchore("latency", seconds=0.8, operation="check")
    try:
        await _ask_for_rescans(road, [*others, image])
        loop = asyncio.get_running_loop()
        started = loop.time()
        await kube.create(pod("now", image))
        assert loop.time() - started < 5
        assert await road.calls("check", others[-1]) == 0, "the re-scans were through already"
    finally:
        await road.tell_anchore("latency", seconds=0, operation="check")


async def test_a_scanner_killed_in_mid_scan_loses_nothing(road: WatchedRoad, kube: Kubectl) -> None:
    image = "registry.example/bulk/killed:1"
    scanner = road.services.processes["scanner-0"]
    await road.tell_anchore("preload", reference=image)
    await road.tell_anchore("latency", seconds=3, operation="check")
    creating = asyncio.create_task(kube.run("create", "-f", "-", stdin=pod("survivor", image)))

    async def is_being_checked() -> bool:
        return await road.calls("image_add", image) == 1

    await until(is_being_checked, "the scan has begun")
    scanner.kill()
    await road.tell_anchore("latency", seconds=0, operation="check")
    await scanner.start()
    answer = await creating
    assert answer.code == 0, answer.stderr


async def test_a_tag_pushed_again_with_a_bad_image_is_not_admitted_by_the_old_verdict(
    hasty: WatchedRoad,
) -> None:
    image = "registry.example/bulk/moved:1"
    kube = await hasty.namespace()
    await kube.create(pod("before", image))
    finding = {"id": "CVE-1", "package": "p", "version": "1", "severity": "Critical"}
    await hasty.tell_anchore(
        "push", reference=image, content={"vulnerabilities": [finding], "analysis_seconds": 5}
    )
    await asyncio.sleep(TAG_TTL)  # the promise begins when the tag's time is over: nothing to wait on
    answers = [await _try_to_create(hasty, kube.namespace, pod("first-sight", image))]

    async def is_refused() -> bool:
        answers.append(await _try_to_create(hasty, kube.namespace, pod("later", image)))
        return answers[-1] == 403

    await until(is_refused, "the new image is refused for good", seconds=20)
    assert set(answers) == {429, 403}, "admitted by the old verdict"
    assert answers.count(429) > 1, "the analysis was over before anybody could be put off"


async def _try_to_create(road: WatchedRoad, namespace: str, manifest: dict[str, object]) -> int:
    """One attempt, without a client's own repetitions: the status."""
    async with KubeApi(road.plane.kubeconfig()) as api:
        try:
            await api.request("POST", f"/api/v1/namespaces/{namespace}/pods", manifest)
        except ApiError as error:
            return error.status
        return 201


async def _ask_for_rescans(road: WatchedRoad, images: list[str]) -> None:
    client = await nats.connect(**road.nats.options("operator"))
    try:
        for image in images:
            request = ScanRequest(
                tenant="default",
                image=str(parse(image)),
                bundle_id=BUNDLE,
                asked_at=datetime.now(UTC),
            )
            subject = scan_subject(Lane.RESCAN, "default", request.key)
            await client.jetstream().publish(subject, contracts.encode(request))
    finally:
        await client.close()
