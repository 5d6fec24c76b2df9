"""No credential comes out anywhere: unique secrets in every place, a road with faults, and then everything is searched.

A proxy stands before Anchore that answers with what it was sent; targets of notifications do not answer; addresses have
credentials in them; the path secret is sent in requests that cannot be read. Searched are the logs of all services at
debug level, NATS' own, all metrics, every message of every stream and bucket, all Audits, events and other objects, what
whoever creates Pods is told, and the output of the operator's commands.
"""

import asyncio
import base64
import json
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import trustme
import yaml
from nats.js.errors import NotFoundError

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubectl import Kubectl
from deploy.dev.ports import free_port
from shared import subjects
from shared.streams import bucket_stream
from tests.audit_writer.notifications.flips import flip
from tests.security.doors import files_of
from tests.security.echo import EchoingProxy
from tests.support.command_line import CommandLine
from tests.support.nats_users import AUDIT_WRITER, OPERATOR, broker_as
from tests.support.road import WatchedRoad, pod, until

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(600)]

STREAMS = (
    subjects.SCANS,
    subjects.EVENTS,
    subjects.DEAD,
    *map(bucket_stream, (subjects.VERDICTS, subjects.SCAN_STATES, subjects.TENANTS, subjects.RUNNING)),
)
MODES = ("500", "401", "403", "400", "404", "502", "503", "reset", "garble")


def canary(what: str) -> str:
    """A secret that is found nowhere by chance."""
    return f"canary-{what}-{secrets.token_hex(8)}"


@dataclass
class Aviary:
    """Every secret there is, and everything that was said."""

    secrets: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def plant(self, what: str) -> str:
        return self.secrets.setdefault(what, canary(what))

    def hear(self, where: str, text: str) -> None:
        self.said[where] = self.said.get(where, "") + text

    def escaped(self) -> list[str]:
        """Which secret was found where, in any form."""
        found = []
        for what, secret in self.secrets.items():
            token = base64.b64encode(f"admin:{secret}".encode()).decode()
            for form in {
                secret,
                base64.b64encode(secret.encode()).decode(),
                token,
                quote(secret),
                secret[7:],
            }:
                found += [f"{what} in {where}" for where, text in self.said.items() if form in text]
        return found


@pytest.fixture
def aviary() -> Aviary:
    return Aviary()


@asynccontextmanager
async def unsafe_road(
    plane: ControlPlane, folder: Path, aviary: Aviary
) -> AsyncIterator[tuple[WatchedRoad, EchoingProxy]]:
    """A road whose every credential is a canary, with a proxy before Anchore."""
    (folder / "anchore").write_text(aviary.plant("anchore"))
    (folder / "hook").write_text(f"http://127.0.0.1:9/{aviary.plant('hook-url')}")
    (folder / "token").write_text(aviary.plant("bearer-token"))
    (folder / "headers").write_text(f"X-Api-Key: {aviary.plant('header')}\n")
    (folder / "key").write_text(aviary.plant("signing-key"))
    (folder / "notices").write_text(aviary.plant("notifications"))
    target = {"urlFile": "hook", "headersFile": "headers", "giveUpAfter": "1h"}
    targets = [
        {"name": "a", "type": "webhook", "secretFile": "key", "bearerTokenFile": "token", **target},
        {"name": "b", "type": "slack", **target},
        {"name": "c", "type": "alertmanager", **target},
    ]
    (folder / "notify.yaml").write_text(yaml.safe_dump({"targets": targets}))
    files = files_of(folder / "tls", trustme.CA())
    port = free_port()
    settings = {
        "MOORGATE_LOG_LEVEL": "debug",
        "MOORGATE_ANCHORE_URL": f"http://127.0.0.1:{port}",
        "MOORGATE_ANCHORE_PASSWORD_FILE": str(folder / "anchore"),
        "MOORGATE_NOTIFY_FILE": str(folder / "notify.yaml"),
        "MOORGATE_NOTIFICATIONS_LISTEN": f"127.0.0.1:{free_port()}",
        "MOORGATE_NOTIFICATIONS_CERT_FILE": str(files.certificate),
        "MOORGATE_NOTIFICATIONS_KEY_FILE": str(files.key),
        "MOORGATE_NOTIFICATIONS_SECRET_FILE": str(folder / "notices"),
        "MOORGATE_INVENTORY_INTERVAL": "2s",
    }
    road = WatchedRoad(plane=plane, folder=folder / "road", settings=settings)
    async with EchoingProxy(road.anchore_url).running(port) as proxy, road:
        aviary.secrets["path"] = road.services._secret
        aviary.secrets |= {f"nats-{user}": each for user, each in road.nats.access.passwords.items()}  # type: ignore[union-attr]
        aviary.secrets["tls-key"] = (road.services.folder / "gateway.key").read_text().splitlines()[2]
        aviary.secrets["notices-key"] = files.key.read_text().splitlines()[2]
        yield road, proxy


async def test_no_credential_comes_out_anywhere(
    control_plane: ControlPlane, tmp_path: Path, aviary: Aviary
) -> None:
    async with unsafe_road(control_plane, tmp_path, aviary) as (road, proxy):
        kube = await road.namespace()
        await live_through_faults(proxy, kube, aviary)
        await tell_of_a_flip(road)
        await ask_with_the_wrong_words(road, aviary)
        await type_commands(road, proxy, aviary, tmp_path)
        await overhear(road, kube, aviary)
    for log in sorted((tmp_path / "road").rglob("*.log")):
        aviary.hear(log.name, log.read_text(errors="replace"))
    everything = "".join(aviary.said.values())
    assert len(proxy.seen) > len(MODES), "the proxy echoed"
    assert any(aviary.secrets["anchore"] in echoed for echoed in proxy.seen), "the password itself"
    assert "[hidden]" in everything, "what it echoed reached us"
    assert '"level": "debug"' in everything
    assert aviary.escaped() == []


async def live_through_faults(proxy: EchoingProxy, kube: Kubectl, aviary: Aviary) -> None:
    """Images good and bad, and under each fault one that nobody has seen."""
    await kube.create(pod("good", "nginx:1.25"))
    for number, name in enumerate(
        ("registry.example/bad/x:1", "registry.example/missing/x:1", "*.>", "a\u202eb")
    ):
        answer = await kube.run("create", "-f", "-", stdin=pod(f"odd-{number}", name))
        aviary.hear("kubectl", answer.stdout + answer.stderr)
        assert answer.code, name
    for mode in MODES:
        proxy.mode = mode
        before = len(proxy.seen)
        image = f"registry.example/bulk/{mode}-{secrets.token_hex(3)}:1"

        async def refused(image: str = image, mode: str = mode, before: int = before) -> bool:
            answer = await kube.run(
                "create", "-f", "-", "--request-timeout=9s", stdin=pod(f"p-{mode}", image)
            )
            aviary.hear("kubectl", answer.stdout + answer.stderr)
            assert answer.code
            return len(proxy.seen) > before

        await until(refused, f"the proxy was asked under {mode}", 60)
    proxy.mode = "pass"


async def tell_of_a_flip(road: WatchedRoad) -> None:
    """To targets that do not answer; each try is logged."""
    async with broker_as(road.nats, AUDIT_WRITER) as broker:
        event = flip(id=secrets.token_hex(16), flipped_at=datetime.now(UTC))
        await broker.publish(subjects.flip_subject("fail"), event, event.id)

    async def was_tried() -> bool:
        text = (road.services.folder / "audit_writer-0.log").read_text()
        return all(f"notify-{target}" in text or f'"target": "{target}"' in text for target in "abc")

    await until(was_tried, "every target was tried", 60)


async def ask_with_the_wrong_words(road: WatchedRoad, aviary: Aviary) -> None:
    """The path secret in requests that cannot be read, and a wrong one; what is answered is heard too."""
    url = road.services.webhook_url()
    host, _, rest = url.removeprefix("https://").partition("/")
    address, _, port = host.partition(":")
    tls = ssl.create_default_context(cafile=str(road.services.ca))
    for request in (
        f"POST /{rest} HTTP/9.9\r\n\r\n",
        f"BREW /{rest}\r\n\r\n",
        f"POST /{rest} HTTP/1.1\r\nHost\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(address, int(port), ssl=tls)
        writer.write(request.encode())
        await asyncio.wait_for(reader.read(), 20)  # told to its own sender alone, who has the secret
        writer.close()
    async with aiohttp.ClientSession() as session:
        for path, body in ((url, b"{"), (url + "x", b"{}"), (f"{url}/x", b"{}")):
            async with session.post(
                path, data=body, headers={"Content-Type": "application/json"}, ssl=tls
            ) as answer:
                aviary.hear("refusals", await answer.text())
                assert answer.status in {400, 404}


async def type_commands(road: WatchedRoad, proxy: EchoingProxy, aviary: Aviary, folder: Path) -> None:
    """What an operator types, also with credentials in addresses, and a bootstrap that is echoed."""
    moorgate = CommandLine(
        {
            "KUBECONFIG": str(road.plane.kubeconfig()),
            "MOORGATE_NAMESPACE": road.name,
            **road.nats.settings(OPERATOR),
        }
    )
    kube = await road.namespace()
    login = {"username": "robot", "password": aviary.plant("registry")}
    await kube.ok("apply", "-f", "-", stdin={
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps({"auths": {"r.example": login}})},
    })  # fmt: skip
    sections = {
        "anchore": {"url": proxy.url, "passwordFile": "anchore"},
        "registries": [{"namespace": kube.namespace, "name": "pull"}],
        "waitFor": "3s",
    }
    (folder / "bootstrap.yaml").write_text(json.dumps(sections))
    bootstrap = moorgate.given(MOORGATE_BOOTSTRAP_FILE=str(folder / "bootstrap.yaml"))
    userinfo = f"x:{aviary.plant('userinfo')}@127.0.0.1:{free_port()}"
    commands: list[tuple[CommandLine, tuple[str, ...]]] = [
        (moorgate, ("status",)),
        (moorgate, ("check", "nginx:1.25", "registry.example/bulk/x:1", "--wait", "0")),
        (moorgate, ("audits", "-A", "-o", "yaml")),
        (moorgate, ("whitelist", "list", "-o", "json")),
        (moorgate, ("dead", "list", "-o", "json")),
        (moorgate, ("status", "--verbose")),
        (moorgate.given(MOORGATE_NATS_URL=f"nats://{userinfo}"), ("status", "--verbose")),
        (moorgate.given(MOORGATE_NATS_URL=f"nats://{userinfo}:x"), ("check", "nginx:1.25")),
        (
            moorgate.given(MOORGATE_NATS_PASSWORD=aviary.plant("wrong-nats")),
            ("check", "nginx:1.25", "--verbose"),
        ),
        (
            moorgate.given(MOORGATE_ANCHORE_URL=f"http://{userinfo}", MOORGATE_ANCHORE_PASSWORD="x"),
            ("scanner",),
        ),
        (moorgate.given(MOORGATE_PATH_SECRET=f"{aviary.plant('bad-path')}/"), ("gateway",)),
        (bootstrap, ("bootstrap",)),
    ]
    for command, typed in commands:
        answer = await command(*typed)
        aviary.hear(f"moorgate {typed[0]}", answer.stdout + answer.stderr)
    for mode in ("400", "500", "401", "503", "garble"):
        proxy.mode = mode
        answer = await bootstrap("bootstrap")
        aviary.hear("moorgate bootstrap", answer.stdout + answer.stderr)
        assert answer.code, mode
    proxy.mode = "pass"


async def overhear(road: WatchedRoad, kube: Kubectl, aviary: Aviary) -> None:
    """Metrics, every message, and every object that Moorgate or the API server wrote."""
    async with aiohttp.ClientSession() as session:
        for name in ("gateway-0", "scanner-0", "audit_writer-0"):
            for path in ("metrics", "readyz"):
                async with session.get(f"{road.services.probes_url(name)}/{path}") as answer:
                    aviary.hear(f"{name} {path}", await answer.text())
    async with broker_as(road.nats, OPERATOR) as operator:
        for stream in STREAMS:
            for sequence in range(1, (await operator.jetstream.stream_info(stream)).state.last_seq + 1):
                try:
                    message = await operator.jetstream.get_msg(stream, sequence)
                except NotFoundError:  # acknowledged, or written over
                    continue
                aviary.hear(stream, f"{message.subject} {message.headers} {(message.data or b'').decode()}")
    for what in ("audits", "events", "imagepolicies", "whitelistitems", "leases", "pods"):
        aviary.hear(what, (await kube.run("get", what, "-A", "-o", "json")).stdout)
    assert "registry.example" in aviary.said["audits"]
    assert subjects.EVENTS in aviary.said
    assert bucket_stream(subjects.SCAN_STATES) in aviary.said
