"""The gateways' TLS life on the real API server: rotations, renewals and deaths, and no admission lost by them.

Gateways run as processes of their own, so that they can be killed. They judge in mode `off`: what is asked
here is whether the API server reaches them at all, and every webhook configuration fails closed.
"""

import asyncio
import base64
import json
import secrets
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import trustme
from cryptography import x509

from deploy.dev.controlplane import ControlPlane
from deploy.dev.kubeapi import ApiError, KubeApi
from deploy.dev.kubectl import Kubectl
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.registration import webhook_configurations
from deploy.dev.services import ROOT
from services.gateway.registration import LABEL, PATH
from shared.authority import SECRET
from tests.support.road import pod, until

pytestmark = pytest.mark.usefixtures("broker")

IN_A_HURRY = """
import os, sys
from datetime import timedelta
from functools import partial
from services.gateway import app, config
from shared.authority import Lifetimes
from services.gateway.issuer import IssuerTimes
from shared import lifecycle, logs
from shared.leases import LeaseTimes
settings = config.load(os.environ)
logs.set_up(settings.log_level, settings.log_format)
times = IssuerTimes(
    lives=Lifetimes(
        leaf=timedelta(seconds=9), authority=timedelta(seconds=24), retirement=timedelta(seconds=1)
    ),
    propagation=timedelta(seconds=2),
    look=0.3,
    lease=LeaseTimes(duration=3, renew_deadline=2, retry=0.4),
)
sys.exit(lifecycle.run(partial(app.run, settings, times=times)))
"""
"""The gateway with its composition root's own parameter: lives of seconds."""


@dataclass
class Gateway:
    """One process and its two ports."""

    process: Process
    port: int
    probes: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/imagecheck"


@dataclass
class Site:
    """Gateways, and the namespace that asks them."""

    plane: ControlPlane
    nats: NatsServer
    folder: Path
    name: str = field(default_factory=lambda: f"tls-{secrets.token_hex(4)}")
    gateways: list[Gateway] = field(default_factory=list)

    async def start(self, stack: AsyncExitStack, **settings: str) -> Gateway:
        port, probes = free_port(), free_port()
        program = ["-c", IN_A_HURRY] if settings.get("MOORGATE_TLS_ISSUER") else ["-m", "services.gateway"]
        process = Process(
            name=f"gateway-{len(self.gateways)}",
            argv=[sys.executable, *program],
            log=self.folder / f"gateway-{len(self.gateways)}.log",
            ready=answers_ok(f"http://127.0.0.1:{probes}/readyz"),
            ready_within=40,
            stop_within=30,
            cwd=ROOT,
            env={
                "KUBECONFIG": str(self.plane.kubeconfig()),
                "MOORGATE_NATS_URL": self.nats.url,
                "MOORGATE_NAMESPACE": self.name,
                "MOORGATE_LISTEN": f"127.0.0.1:{port}",
                "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{probes}",
                "MOORGATE_ALLOW_ANY_CALLER": "true",
                "MOORGATE_MODE": "off",
                **settings,
            },
        )
        stack.push_async_callback(process.stop)
        process.launch()
        gateway = Gateway(process, port, probes)
        self.gateways.append(gateway)
        return gateway

    @asynccontextmanager
    async def registered(self, gateway: Gateway, ca: Path) -> AsyncIterator[str]:
        """The API server asks this gateway for the site's namespace; gives the configuration's name."""
        body, _ = webhook_configurations(
            f"{self.name}-{gateway.port}",
            gateway.url,
            ca,
            {"matchLabels": {"kubernetes.io/metadata.name": self.name}},
        )
        body["metadata"]["labels"] = {LABEL: self.name}
        if not body["webhooks"][0]["clientConfig"]["caBundle"]:
            del body["webhooks"][0]["clientConfig"]["caBundle"]
        name = body["metadata"]["name"]
        async with KubeApi(self.plane.kubeconfig()) as api:
            await api.request("POST", PATH, body)
            try:
                yield name
            finally:
                await api.request("DELETE", f"{PATH}/{name}")

    async def metric(self, gateway: Gateway, sample: str) -> float:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{gateway.probes}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} ")), 0.0)


@pytest.fixture
async def site(control_plane: ControlPlane, nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(control_plane, nats_server, tmp_path)
    kubectl = Kubectl(control_plane)
    await kubectl.ok("create", "namespace", site.name)
    yield site
    await kubectl.ok("delete", "namespace", site.name, "--wait=false")


class Admissions:
    """Pods created one after another by the real API server, while something else happens."""

    def __init__(self, site: Site, pause: float = 0.1) -> None:
        self.site = site
        self.pause = pause
        self.name = f"pod-{secrets.token_hex(3)}"
        self.made = 0
        self.failures: list[str] = []

    async def run(self) -> None:
        path = f"/api/v1/namespaces/{self.site.name}/pods"
        async with KubeApi(self.site.plane.kubeconfig()) as api:
            while True:
                dry = "?dryRun=All" if self.made % 5 else ""  # a few real ones; a webhook sees them all
                try:
                    await api.request("POST", f"{path}{dry}", pod(f"{self.name}-{self.made}", "nginx:1"))
                except ApiError as error:
                    self.failures.append(f"{time.strftime('%X')} {error}")
                self.made += 1
                await asyncio.sleep(self.pause)


@asynccontextmanager
async def beside(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """`work` goes on while the body runs; its errors come out."""
    task = asyncio.ensure_future(work())
    try:
        yield
    finally:
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
        if isinstance(done[0], Exception):
            raise done[0]


async def shown(port: int, trust: str | None) -> x509.Certificate:
    """The certificate that a new connection gets, checked against `trust` where it is given."""
    context = ssl.create_default_context(cadata=trust) if trust else ssl._create_unverified_context()
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port, ssl=context), 5)
    try:
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(found)
    finally:
        writer.close()
        reader.feed_eof()


def mount(folder: Path, leaf: trustme.LeafCert) -> None:
    """As the kubelet puts a Secret into a volume: everything in a new folder, then one link is swapped."""
    new = folder / f"..{secrets.token_hex(4)}"
    new.mkdir(parents=True)
    (new / "tls.crt").write_bytes(b"".join(each.bytes() for each in leaf.cert_chain_pems))
    (new / "tls.key").write_bytes(leaf.private_key_pem.bytes())
    (folder / "..tmp").symlink_to(new.name)
    (folder / "..tmp").replace(folder / "..data")
    for file in ("tls.crt", "tls.key"):
        if not (folder / file).is_symlink():
            (folder / file).symlink_to(Path("..data") / file)


def files_of(folder: Path) -> dict[str, str]:
    return {
        "MOORGATE_TLS_CERT_FILE": str(folder / "tls.crt"),
        "MOORGATE_TLS_KEY_FILE": str(folder / "tls.key"),
    }


def review() -> bytes:
    """A Pod's AdmissionReview, as the API server sends it."""
    request = {
        "uid": secrets.token_hex(8),
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "tls",
        "operation": "CREATE",
        "userInfo": {"username": "alice"},
        "object": pod("web", "nginx:1"),
        "dryRun": True,
    }
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(body).encode()


class Callers:
    """Requests over kept connections and, every other one, over a new one."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self.url = url
        self.context = context
        self.answered = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(self._call(is_new=True))
                group.create_task(self._call(is_new=False))

    async def _call(self, *, is_new: bool) -> None:
        connector = aiohttp.TCPConnector(ssl=self.context, force_close=is_new)
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                async with session.post(self.url, data=review(), headers=JSON) as answer:
                    assert (await answer.json())["response"]["allowed"] is True
                self.answered += 1
                await asyncio.sleep(0.02)


JSON = {"Content-Type": "application/json"}


async def test_a_rotation_of_files_under_load_drops_nothing(site: Site, tmp_path: Path) -> None:
    authority, folder = trustme.CA(), tmp_path / "mounted"
    mount(folder, authority.issue_cert("127.0.0.1"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with AsyncExitStack() as stack:
        gateway = await site.start(stack, **files_of(folder))
        await gateway.process.wait_until_ready()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        await stack.enter_async_context(site.registered(gateway, tmp_path / "ca.pem"))
        callers, admissions = Callers(gateway.url, context), Admissions(site, pause=0.02)
        serials = set()
        async with beside(callers.run), beside(admissions.run):
            for _ in range(3):
                leaf = authority.issue_cert("127.0.0.1")
                wanted = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
                mount(folder, leaf)

                async def is_served(wanted: int = wanted) -> bool:
                    return (await shown(gateway.port, None)).serial_number == wanted

                await until(is_served, "the new certificate is served", 5)
                serials.add(wanted)
        assert len(serials) == 3
        assert callers.answered >= 300
        assert admissions.made >= 50
        assert admissions.failures == []
        not_after = await site.metric(gateway, "moorgate_certificate_not_after_seconds")
        expected = (await shown(gateway.port, None)).not_valid_after_utc.timestamp()
        assert not_after == expected


async def test_a_client_ca_gives_another_caller_nothing(site: Site, tmp_path: Path) -> None:
    authority, callers, folder = trustme.CA(), trustme.CA(), tmp_path / "mounted"
    mount(folder, authority.issue_cert("127.0.0.1"))
    callers.cert_pem.write_to_path(tmp_path / "client-ca.pem")
    async with AsyncExitStack() as stack:
        gateway = await site.start(
            stack,
            **files_of(folder),
            MOORGATE_ALLOW_ANY_CALLER="false",
            MOORGATE_CLIENT_CA_FILE=str(tmp_path / "client-ca.pem"),
        )
        await gateway.process.wait_until_ready()

        async def answer(own: trustme.LeafCert | None) -> int:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            if own:
                own.configure_cert(context)
            try:
                async with (
                    aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
                    session.post(gateway.url, data=review(), headers=JSON) as response,
                ):
                    return response.status
            except aiohttp.ClientError:
                return 0

        assert await answer(callers.issue_cert("api-server")) == 200
        assert await answer(trustme.CA().issue_cert("api-server")) == 0
        assert await answer(None) == 0
        assert (
            await site.metric(
                gateway,
                'moorgate_admission_requests_total{action="allowed",operation="CREATE",resource="Pod"}',
            )
            == 1
        )


@dataclass
class Watcher:
    """Looks at what is trusted, and a moment later at what is served: a new connection must always work."""

    site: Site
    configurations: dict[str, Gateway]
    served: dict[str, list[int]] = field(default_factory=dict)
    bundles: list[int] = field(default_factory=list)
    authorities: set[int] = field(default_factory=set)

    async def run(self) -> None:
        async with KubeApi(self.site.plane.kubeconfig()) as api:
            while True:
                trusts = {name: await self._trust(api, name) for name in self.configurations}
                await asyncio.sleep(0.3)
                for name, gateway in self.configurations.items():
                    if gateway.process.is_running:
                        leaf = await shown(gateway.port, trusts[name])
                        serials = self.served.setdefault(name, [])
                        if leaf.serial_number not in serials:
                            serials.append(leaf.serial_number)

    async def _trust(self, api: KubeApi, name: str) -> str:
        found = json.loads(await api.request("GET", f"{PATH}/{name}"))
        text = base64.b64decode(found["webhooks"][0]["clientConfig"]["caBundle"]).decode()
        certificates = x509.load_pem_x509_certificates(text.encode())
        self.bundles.append(len(certificates))
        self.authorities |= {each.serial_number for each in certificates}
        return text


async def holder(site: Site) -> str:
    found = await Kubectl(site.plane, site.name).get("lease/moorgate-gateway")
    return str(found["spec"].get("holderIdentity") or "")


async def leaders_log(site: Site) -> list[int]:
    """How often each gateway has said that it leads."""
    return [each.process.log.read_text().count('"leading"') for each in site.gateways]


@pytest.mark.long
@pytest.mark.timeout(240)  # two lives of an authority and one more, in real seconds
async def test_renewals_a_killed_leader_and_a_deleted_secret_cost_no_admission(
    site: Site, tmp_path: Path
) -> None:
    """Lives of seconds: three authorities and a dozen leaves pass by under real Pods."""
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    kubectl = Kubectl(site.plane, site.name)
    async with AsyncExitStack() as stack:
        first = await site.start(stack, MOORGATE_TLS_ISSUER="self")
        second = await site.start(stack, MOORGATE_TLS_ISSUER="self")
        await asyncio.gather(first.process.wait_until_ready(), second.process.wait_until_ready())
        names = {
            await stack.enter_async_context(site.registered(each, empty)): each for each in (first, second)
        }
        await until(lambda: _are_trusted(kubectl, names), "the configurations trust the authority", 10)
        await asyncio.sleep(1)  # until the API server itself has seen that
        watcher, admissions = Watcher(site, names), Admissions(site)
        async with beside(watcher.run), beside(admissions.run):

            async def have_passed(authorities: int) -> bool:
                return len(watcher.authorities) >= authorities and watcher.bundles[-1] < max(watcher.bundles)

            await until(lambda: have_passed(3), "two renewals of the authority", 70)
            assert all(len(each) >= 4 for each in watcher.served.values())
            before = watcher.authorities.copy()
            await kubectl.ok("delete", "secret", SECRET)

            async def is_made_anew() -> bool:
                return bool(watcher.authorities - before)

            await until(is_made_anew, "a new Secret with a new authority", 15)
            seen = {name: each.copy() for name, each in watcher.served.items()}

            async def are_served_anew() -> bool:
                return all(set(watcher.served[name]) - set(seen[name]) for name in names)

            await until(are_served_anew, "both gateways serve its leaf", 20)
        assert admissions.failures == []
        assert admissions.made >= 200
        leader = first if await leaders_log(site) == [1, 0] else second
        heir = second if leader is first else first
        leader.process.kill()
        gone = next(name for name, each in names.items() if each is leader)
        async with KubeApi(site.plane.kubeconfig()) as api:  # the Service would no longer lead there
            await api.merge_patch(f"{PATH}/{gone}", {"webhooks": []})
        identity = await holder(site)
        survivor = Watcher(site, {name: each for name, each in names.items() if each is heir})
        admissions = Admissions(site)
        async with beside(survivor.run), beside(admissions.run):

            async def has_taken_over() -> bool:
                return await holder(site) not in ("", identity)

            await until(has_taken_over, "the other leads", 10)

            async def has_renewed() -> bool:
                return len(survivor.authorities) >= 3

            await until(has_renewed, "the heir renews the authority", 60)
        assert admissions.failures == []
        for each in site.gateways:
            assert "PRIVATE KEY" not in each.process.log.read_text()


async def _are_trusted(kubectl: Kubectl, names: dict[str, Gateway]) -> bool:
    found = [await kubectl.get(f"validatingwebhookconfiguration/{name}") for name in names]
    return all("caBundle" in each["webhooks"][0]["clientConfig"] for each in found)


async def test_the_api_server_away_and_the_old_certificate_goes_on(site: Site) -> None:
    async with AsyncExitStack() as stack:
        gateway = await site.start(stack, MOORGATE_TLS_ISSUER="self")
        await gateway.process.wait_until_ready()
        site.plane.apiserver.pause()
        try:
            await asyncio.sleep(4)  # longer than the Lease: leadership is lost
            await shown(gateway.port, None)
            assert await gateway.process.ready()
        finally:
            site.plane.apiserver.resume()

        async def leads_again() -> bool:
            return await leaders_log(site) == [2]

        await until(leads_again, "it leads again", 20)
        assert gateway.process.is_running
