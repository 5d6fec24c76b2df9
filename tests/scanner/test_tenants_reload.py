"""The tenants' file changes while scanners run: what is new is scanned, what is gone leaves nothing, a bad file changes nothing.

A real NATS, and an Anchore simulator for each tenant.
"""

import asyncio
import copy
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import nats.js.errors
import pytest
from prometheus_client import CollectorRegistry

from services.scanner import config, tenants
from services.scanner.metrics import ScannerMetrics
from services.scanner.tenants import Tenants
from shared import anchore as transport
from shared import consumer, streams, subjects
from shared.contracts import ErrorClass
from shared.errors import BadSetting
from shared.lifecycle import background
from shared.subjects import Lane
from tests.support.anchore import anchore
from tests.support.scene import WITHIN, Scene, hold

IMAGES = [f"registry.example/bulk/app:{number}" for number in range(5)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants, "RELOAD", 0.1)
    monkeypatch.setattr(consumer, "PROBE_WAIT", 0.1)


def entry(scene: Scene, password: str = "foobar", **more: str) -> str:
    keys = {"url": f"'{scene.simulator.url}'", "username": "admin", "password": password, "api": "v1", **more}
    return f"  {scene.tenant}: {{{', '.join(f'{name}: {value}' for name, value in keys.items())}}}\n"


def another(scene: Scene) -> Scene:
    """A second tenant of the same Anchore."""
    made = copy.copy(scene)
    made.tenant = f"t-{secrets.token_hex(4)}"
    return made


class File:
    """The tenants' file, replaced as editors do."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tenants.yaml"

    def holds(self, *entries: str) -> None:
        self.write("tenants:\n" + "".join(entries) if entries else "tenants: {}\n")

    def write(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path)


@asynccontextmanager
async def scanning(scene: Scene, path: Path) -> AsyncIterator[ScannerMetrics]:
    metrics = ScannerMetrics(CollectorRegistry())
    loaded = config.load({"MOORGATE_NATS_URL": scene._nats.url, "MOORGATE_TENANTS_FILE": str(path)})
    async with background(Tenants(loaded, scene.broker, metrics).run()):
        yield metrics


async def until(scene: Scene, condition: Callable[[], bool]) -> None:
    """Asks NATS in between, so that others get their turn."""
    async with asyncio.timeout(WITHIN):
        while not condition():
            await scene.buckets.tenant(scene.tenant)


def degraded(metrics: ScannerMetrics) -> Callable[[float], Callable[[], bool]]:
    return lambda value: lambda: metrics.degraded.labels("tenants")._value.get() == value


async def lanes(scene: Scene) -> set[Lane]:
    found = set()
    for lane in Lane:
        try:
            durable = subjects.lane_durable(lane, scene.tenant)
            await scene.broker.jetstream.consumer_info(subjects.SCANS, durable)
        except nats.js.errors.NotFoundError:
            continue
        found.add(lane)
    return found


async def gone(scene: Scene) -> None:
    async with asyncio.timeout(WITHIN):
        while await lanes(scene) or await scene.buckets.tenant(scene.tenant):
            continue


def preload(scenes: Iterable[Scene]) -> None:
    for scene in scenes:
        for image in IMAGES:
            scene.simulator.preload(image)


async def test_a_tenant_added_is_scanned_and_the_others_go_on(scene: Scene, file: File) -> None:
    second = another(scene)
    preload([scene])
    file.holds(entry(scene))
    async with scanning(scene, file.path):
        await scene.scanned(IMAGES[0])
        read = (await scene.record(lambda _: True)).read_at
        file.holds(entry(scene), entry(second))
        await second.scanned(IMAGES[0])
        await scene.scanned(IMAGES[1])
        assert (await scene.record(lambda _: True)).read_at == read, "it was not begun anew"


async def test_the_first_tenant_may_come_later(scene: Scene, file: File) -> None:
    preload([scene])
    file.holds()
    async with scanning(scene, file.path):
        file.holds(entry(scene))
        await scene.scanned(IMAGES[0])


async def test_a_changed_password_takes_effect(scene: Scene, file: File) -> None:
    preload([scene])
    file.holds(entry(scene, "wrong"))
    async with scanning(scene, file.path):
        await scene.ask(IMAGES[0])
        await scene.error(IMAGES[0], ErrorClass.ANCHORE_UNAUTHORIZED)
        file.holds(entry(scene))
        await scene.record(lambda record: record.away_since is None)
        await scene.scanned(IMAGES[1])


async def test_of_one_removed_nothing_is_left(scene: Scene, file: File) -> None:
    second = another(scene)
    preload([scene])
    file.holds(entry(scene), entry(second))
    async with scanning(scene, file.path):
        await scene.scanned(IMAGES[0])
        await second.scanned(IMAGES[0])
        with hold(scene.simulator, "image_add", 1) as held:
            await scene.ask(IMAGES[1])
            await asyncio.wait_for(held.arrived.wait(), WITHIN)
            file.holds(entry(second))
            await gone(scene)
        assert await lanes(second) == set(Lane)
        await scene.ask(IMAGES[2])
        await scene.ask(IMAGES[3], Lane.RESCAN)
        await second.scanned(IMAGES[1])
        assert await streams.oldest_request(scene.broker, Lane.ADMISSION, scene.tenant), "nobody takes it"
        file.holds(entry(scene), entry(second))
        await scene.verdict(IMAGES[2])


async def test_what_waits_for_one_that_is_removed_is_removed(scene: Scene, file: File) -> None:
    file.holds(entry(scene))
    async with scanning(scene, file.path):
        with hold(scene.simulator, "image_add", 99) as held:
            for image in IMAGES:
                await scene.ask(image)
                await scene.ask(image, Lane.RESCAN)
            await asyncio.wait_for(held.arrived.wait(), WITHIN)
            file.holds()
            await gone(scene)
        for lane in Lane:
            assert await streams.oldest_request(scene.broker, lane, scene.tenant) is None


@pytest.mark.parametrize("text", ["tenants: [", "", "tenants: {Bad: {}}", "- x"])
async def test_a_broken_file_changes_nothing_and_is_shown(scene: Scene, file: File, text: str) -> None:
    preload([scene])
    file.holds(entry(scene))
    async with scanning(scene, file.path) as metrics:
        await scene.scanned(IMAGES[0])
        file.write(text)
        await until(scene, degraded(metrics)(1))
        await scene.scanned(IMAGES[1])
        assert await lanes(scene) == set(Lane)
        file.path.unlink()
        await scene.scanned(IMAGES[2])
        file.holds(entry(scene))
        await until(scene, degraded(metrics)(0))


async def test_a_broken_file_at_the_start_ends_it(scene: Scene, file: File) -> None:
    file.holds(entry(scene))
    loaded = config.load({"MOORGATE_NATS_URL": scene._nats.url, "MOORGATE_TENANTS_FILE": str(file.path)})
    file.write("tenants: [")
    running = Tenants(loaded, scene.broker, ScannerMetrics(CollectorRegistry())).run()
    with pytest.raises(BaseExceptionGroup) as ended:
        await asyncio.wait_for(running, WITHIN)
    assert ended.group_contains(BadSetting)


async def test_a_mounted_secret_is_followed(scene: Scene, tmp_path: Path) -> None:
    """A kubelet writes a new folder and swaps one symbolic link; what scanners read are links through it."""
    second = another(scene)
    preload([scene])

    def mount(version: str, text: str, password: str) -> None:
        folder = tmp_path / version
        folder.mkdir()
        (folder / "tenants.yaml").write_text("tenants:\n" + text)
        (folder / "password").write_text(password)
        (tmp_path / "..new").symlink_to(version)
        os.replace(tmp_path / "..new", tmp_path / "..data")  # noqa: PTH105  as the kubelet does

    def by_file(each: Scene) -> str:
        return entry(each, "x").replace("password: x", "passwordFile: password")

    mount("..1", by_file(scene), "wrong")
    for name in ("tenants.yaml", "password"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    async with scanning(scene, tmp_path / "tenants.yaml"):
        await scene.ask(IMAGES[0])
        await scene.error(IMAGES[0], ErrorClass.ANCHORE_UNAUTHORIZED)
        mount("..2", by_file(scene), "foobar")
        await scene.record(lambda record: record.away_since is None)
        await scene.scanned(IMAGES[1])
        mount("..3", by_file(scene) + by_file(second), "foobar")
        await second.scanned(IMAGES[0])


async def test_a_tenant_whose_anchore_hangs_delays_no_other(
    scene: Scene, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CALL_TIMEOUT", 60.0)
    preload([scene])
    async with anchore() as hanging:
        second = another(scene)
        second.simulator = hanging
        second.fault("*", "hang", times=-1)
        file.holds(entry(second), entry(scene))
        async with scanning(scene, file.path):
            for image in IMAGES:
                for lane in Lane:
                    await second.ask(image, lane)
            async with asyncio.timeout(3):
                for image in IMAGES:
                    await scene.scanned(image)
            assert second.mirror.verdict(second.key(IMAGES[0])) is None
            file.holds(entry(scene))
            await gone(second)


async def test_two_scanners_that_drop_a_tenant_leave_nothing(scene: Scene, file: File) -> None:
    """The one that reloads later makes nothing anew once it has."""
    preload([scene])
    file.holds(entry(scene))
    async with scanning(scene, file.path), scanning(scene, file.path):
        await scene.scanned(IMAGES[0])
        file.holds()
        await gone(scene)


def test_the_file_is_looked_at_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert tenants.RELOAD <= 10
