"""A road on which everything happens that the dashboard shows, scraped by a real Prometheus all the while."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import nats

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from deploy.dev.ports import free_port
from deploy.dev.prometheus import Prometheus
from shared.subjects import Lane, scan_subject
from tests.support.kube import move_tag
from tests.support.monitoring import programs
from tests.support.road import WatchedRoad, pod, until
from tests.support.webhooks import Receiver, receiving

CVE = {"id": "CVE-2026-4711", "package": "openssl", "version": "1", "severity": "Critical"}

WITHIN = 60.0
"""Seconds for any one thing to be seen: scrapes of a busy machine, and gauges told every ten seconds."""


@dataclass
class Scene:
    """One road, whom it notifies, and who watches it."""

    road: WatchedRoad
    kube: Kubectl
    prometheus: Prometheus
    receiver: Receiver
    notices: str
    """Where Anchore's notifications are taken."""
    name: str = field(default_factory=lambda: f"watched-{secrets.token_hex(4)}")

    async def create(self, image: str) -> int:
        """What the API server answers to a Pod of the image."""
        manifest = pod(f"p-{secrets.token_hex(4)}", self.image(image))
        async with self.road.api() as api:
            return (await api.create_pod(self.kube.namespace, manifest)).status

    def image(self, name: str) -> str:
        """An image of this scene's own; "missing" is in no registry."""
        if name == "missing":
            return f"registry.example/nowhere/{self.name}:1"
        return f"registry.example/bulk/{self.name}-{name}:1"

    async def becomes(self, expression: str, what: str) -> None:
        """Wait until Prometheus has a value other than 0 for it."""

        async def is_so() -> bool:
            return any(float(each["value"][1]) > 0 for each in await self.prometheus.query(expression))

        await until(is_so, f"{what}: {expression}", WITHIN)


@asynccontextmanager
async def watched(control_plane: ControlPlane, folder: Path) -> AsyncIterator[Scene]:
    programs()  # skips where there is no Prometheus, before anything is started
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        port = free_port()
        settings = _settings(folder, receiver, port)
        road = await stack.enter_async_context(
            WatchedRoad(plane=control_plane, folder=folder, settings=settings)
        )
        jobs = {"gateway": "gateway-0", "scanner": "scanner-0", "audit-writer": "audit_writer-0"}
        targets = {job: [f"127.0.0.1:{road.services.ports[name]}"] for job, name in jobs.items()}
        prometheus = await stack.enter_async_context(
            Prometheus(folder=folder / "prometheus", targets=targets)
        )
        kube = await road.namespace()
        stack.push_async_callback(kube.ok, "delete", "namespace", kube.namespace, "--wait=false")
        yield Scene(road, kube, prometheus, receiver, f"https://127.0.0.1:{port}/notifications")


def _settings(folder: Path, receiver: Receiver, port: int) -> dict[str, str]:
    notify = folder / "notify.yaml"
    notify.write_text(f"targets: [{{name: tests, type: webhook, url: '{receiver.url}/flips'}}]\n")
    secret = folder / "notices-secret"
    secret.write_text(secrets.token_hex(16))
    return {
        "MOORGATE_RESCAN_INTERVAL": "2s",
        "MOORGATE_INVENTORY_INTERVAL": "2s",
        "MOORGATE_FAIL_TTL": "1s",
        "MOORGATE_NOTIFY_FILE": str(notify),
        "MOORGATE_NOTIFICATIONS_LISTEN": f"127.0.0.1:{port}",
        "MOORGATE_NOTIFICATIONS_CERT_FILE": str(folder / "moorgate" / "gateway.pem"),
        "MOORGATE_NOTIFICATIONS_KEY_FILE": str(folder / "moorgate" / "gateway.key"),
        "MOORGATE_NOTIFICATIONS_SECRET_FILE": str(secret),
    }


async def let_everything_happen(scene: Scene) -> None:
    """Each step is waited for as Prometheus sees it; afterwards all is well again."""
    await scene.becomes("count(up == 1) == bool 3", "all are scraped")
    await _let_in_and_refuse(scene)
    await _post_nonsense(scene)
    await _turn(scene)
    await _be_down(scene)


async def _let_in_and_refuse(scene: Scene) -> None:
    road, images = scene.road, {name: scene.image(name) for name in ("good", "bad", "slow")}
    known = await road.tell_anchore("preload", reference=images["good"])
    move_tag(road.plane, images["good"], known["digest"])
    await road.tell_anchore("push", reference=images["bad"], content={"vulnerabilities": [CVE]})
    await road.tell_anchore("push", reference=images["slow"], content={"analysis_seconds": 300})
    await until(lambda: _is(scene, "good", 201), "the good one is let in", WITHIN)
    assert await scene.create("good") == 201
    await until(lambda: _is(scene, "bad", 403), "the bad one is refused", WITHIN)
    assert await scene.create("slow") == 429
    await until(lambda: _is(scene, "missing", 503), "one that is nowhere is refused", WITHIN)
    for expression in (
        'moorgate_admission_requests_total{action="allowed",operation="CREATE",resource="Pod"}',
        'moorgate_admission_requests_total{action="deferred"}',
        'moorgate_admission_duration_seconds_count{source="memory"}',
        'moorgate_admission_duration_seconds_count{source="wait"}',
        'moorgate_admission_refusals_total{reason="policy"}',
        'moorgate_admission_refusals_total{reason="error"}',
        'moorgate_scans_total{result="image_not_found"}',
        'moorgate_scan_states{state="pending"}',
        'moorgate_scan_states{state="error"}',
        'moorgate_tenants{state="served"}',
        'moorgate_scan_queue_pending{lane="admission"}',
        'moorgate_scan_queue_oldest_seconds{lane="admission"}',
        "moorgate_verdict_mirror_entries",
        'moorgate_leading{lease="moorgate-audit-writer"}',
        'moorgate_leading{lease="moorgate-gateway"}',
        'moorgate_audits_written_total{action="rejected"}',
        "moorgate_audit_lag_seconds_count",
        "moorgate_inventory_interval_seconds == 2",
        "process_open_fds",
    ):
        await scene.becomes(expression, "admissions")


async def _is(scene: Scene, image: str, status: int) -> bool:
    return await scene.create(image) == status


async def _post_nonsense(scene: Scene) -> None:
    """To the gateway, to the port for Anchore's notifications, and into the queue of scans."""
    webhook = scene.road.services.webhook_url().rpartition("/")[0]
    async with aiohttp.ClientSession() as session:
        for url in (f"{webhook}/wrong", f"{scene.notices}/wrong"):
            with contextlib.suppress(aiohttp.ClientError):  # either port may just hang up on a stranger
                async with session.post(url, json={}, ssl=False):
                    pass
    client = await nats.connect(**scene.road.nats.options("gateway"))
    try:
        subject = scan_subject(Lane.ADMISSION, "default", f"default.{scene.name}")
        await client.jetstream().publish(subject, b"nonsense")
    finally:
        await client.close()
    await scene.becomes('moorgate_admission_bad_requests_total{code="404"}', "a stranger's post")
    await scene.becomes('moorgate_anchore_notifications_total{result="refused"}', "a stranger's notification")
    await scene.becomes('increase(moorgate_dead_letters_total{what="scan"}[1m])', "a dead letter")
    await scene.becomes('ALERTS{alertname="MoorgateDeadLetters",what="scan"}', "its alert")


async def _turn(scene: Scene) -> None:
    """What runs turns bad."""
    await scene.becomes("moorgate_inventory_workloads", "an inventory")
    await scene.road.tell_anchore("vulnerabilities", reference=scene.image("good"), vulnerabilities=[CVE])
    await scene.becomes('moorgate_verdict_flips_total{to="fail"}', "a flip")
    await scene.becomes('moorgate_notifications_total{result="sent",type="webhook"}', "a notification")
    await scene.becomes("moorgate_notification_last_sent_timestamp_seconds", "its time")


async def _be_down(scene: Scene) -> None:
    """Anchore, then NATS, and both come back."""
    await scene.road.tell_anchore("faults", operation="*", kind="reset", times=-1)
    await scene.becomes("moorgate_anchore_breakers_open", "a breaker")
    await scene.becomes('moorgate_tenants{state="away"}', "a tenant that is away")
    await scene.becomes('moorgate_anchore_requests_total{code="none"}', "calls without an answer")
    await scene.road.tell_anchore("clear-faults")
    await scene.becomes("moorgate_anchore_breakers_open == bool 0", "it is closed again")
    await scene.road.nats.stop()
    await scene.becomes('moorgate_degraded{part="nats"}', "NATS is missed")
    await scene.road.nats.start()
    await scene.becomes('min(moorgate_degraded{part="nats"}) == bool 0', "NATS is back")
