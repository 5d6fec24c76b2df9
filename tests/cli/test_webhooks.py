"""`moorgate webhooks` on a real API server: nothing that fails closed before a gateway answers, no trust taken away, nothing twice."""

import asyncio
import base64
import gc
import json
import secrets
import ssl
import threading
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from aiohttp import web

from deploy.dev.kubectl import Kubectl
from deploy.dev.ports import free_port
from services.cli import webhooks, webhooks_gateway
from services.cli.webhooks_file import Target, load
from services.cli.webhooks_trust import bundle_of, with_added
from shared.authority import make_authority, pem
from shared.errors import BadSetting
from tests.support.api import STRATEGIC, Api

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SECRET = "s3cret"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOBODYS = {
    "apiGroups": ["moorgate.test"],
    "apiVersions": ["v1"],
    "resources": ["nothings"],
    "operations": ["CREATE"],
}


@dataclass
class Site:
    """A file of two configurations, a CA, and a gateway's port."""

    kubectl: Kubectl
    folder: Path
    capture: pytest.CaptureFixture[str]
    api: Api
    authority: trustme.CA
    name: str = field(default_factory=lambda: f"cli-{secrets.token_hex(3)}")
    port: int = field(default_factory=free_port)

    def configuration(self, kind: str, policy: str) -> dict[str, Any]:
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {
                "name": f"{self.name}-{kind}",
                "labels": {"app.kubernetes.io/part-of": "moorgate", "moorgate.test/site": self.name},
            },
            "webhooks": [
                {
                    "name": f"{kind}.moorgate.test",
                    "clientConfig": {"url": f"https://127.0.0.1:{self.port}/imagecheck"},
                    "failurePolicy": policy,
                    "rules": [NOBODYS],
                    "sideEffects": "NoneOnDryRun",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        }

    def write(self) -> None:
        for kind, policy in (("pods", "Fail"), ("workloads", "Ignore")):
            (self.folder / f"{kind}.yaml").write_text(yaml.safe_dump(self.configuration(kind, policy)))

    async def apply(self, **options: Any) -> tuple[int, str, str]:
        self.capture.readouterr()
        usual = {
            "file": self.folder,
            "ca_secret": "ca",
            "ca_key": "ca.crt",
            "path_secret": "path",
            "wait_for": "20s",
        }
        code = await asyncio.to_thread(lambda: webhooks.apply(**{**usual, **options}))
        out, err = self.capture.readouterr()
        assert SECRET not in out + err
        assert "Traceback" not in out + err
        return code, out, err

    async def live(self) -> dict[str, dict[str, Any]]:
        """By kind, those that are registered."""
        found = {}
        for kind in ("pods", "workloads"):
            reply = await self.api.send("GET", f"{CONFIGURATIONS}/{self.name}-{kind}")
            if reply.status == 200:
                found[kind] = reply.body
        return found

    async def serve(
        self, *, asks_for_certificates: bool = False, says_nothing: bool = False
    ) -> web.AppRunner:
        """A gateway."""

        async def answer(request: web.Request) -> web.Response:
            if says_nothing and request.transport:
                request.transport.abort()
            return web.Response(status=415 if request.match_info["secret"] == SECRET else 404)

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        if asks_for_certificates:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        app = web.Application()
        app.router.add_post("/imagecheck/{secret}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context).start()
        return runner


@pytest.fixture
async def site(
    kubectl: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Site]:
    monkeypatch.setenv("KUBECONFIG", str(kubectl.plane.kubeconfig()))
    monkeypatch.setenv("MOORGATE_NAMESPACE", kubectl.namespace)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    await kubectl.ok("create", "secret", "generic", "ca", f"--from-file={tmp_path / 'ca.crt'}")
    await kubectl.ok("create", "secret", "generic", "path", f"--from-literal=secret={SECRET}")
    folder = tmp_path / "webhooks"
    folder.mkdir()
    async with Api(kubectl.plane.kubeconfig()) as api:
        found = Site(kubectl, folder, capsys, api, authority)
        found.write()
        yield found
    await kubectl.ok("delete", "validatingwebhookconfiguration", "-l", f"moorgate.test/site={found.name}")


@pytest.fixture
async def gateway(site: Site) -> AsyncIterator[web.AppRunner]:
    runner = await site.serve()
    yield runner
    await runner.cleanup()


def clients(configuration: dict[str, Any]) -> list[dict[str, Any]]:
    return [each["clientConfig"] for each in configuration["webhooks"]]


@pytest.mark.usefixtures("gateway")
async def test_both_are_registered_with_trust_and_path_and_never_again(site: Site) -> None:
    code, out, _ = await site.apply(dry_run=True)
    assert (code, out.count("would create")) == (0, 2)
    assert await site.live() == {}

    code, out, err = await site.apply()
    assert (code, out.count("created")) == (0, 2), err
    first = await site.live()
    for each in first.values():
        (client,) = clients(each)
        assert client["url"].endswith(f"/imagecheck/{SECRET}")
        assert base64.b64decode(client["caBundle"]) == site.authority.cert_pem.bytes()

    for options in ({}, {"dry_run": True}):
        code, out, err = await site.apply(**options)
        assert (code, out.count("unchanged")) == (0, 2), err
    assert await site.live() == first, "not even managedFields"


@pytest.mark.usefixtures("gateway")
async def test_what_is_trusted_already_stays_so(site: Site) -> None:
    """A gateway's issuer has added its next authority meanwhile."""
    assert (await site.apply())[0] == 0
    other = make_authority(datetime.now(UTC), timedelta(days=9)).certificate
    bundle = base64.b64encode(pem([other]) + site.authority.cert_pem.bytes()).decode()
    change = {"webhooks": [{"name": "pods.moorgate.test", "clientConfig": {"caBundle": bundle}}]}
    path = f"{CONFIGURATIONS}/{site.name}-pods?fieldManager=moorgate-gateway-issuer"
    await site.api.ok("PATCH", path, change, content_type=STRATEGIC)

    assert (await site.apply())[0] == 0
    live = await site.live()
    assert clients(live["pods"])[0]["caBundle"] == bundle, "byte for byte"

    await site.api.ok(
        "PATCH",
        path,
        {
            "webhooks": [
                {
                    "name": "pods.moorgate.test",
                    "clientConfig": {"caBundle": base64.b64encode(pem([other])).decode()},
                }
            ]
        },
        content_type=STRATEGIC,
    )
    assert (await site.apply())[0] == 0
    trusted = bundle_of(
        base64.b64decode(clients((await site.live())["pods"])[0]["caBundle"]), datetime.now(UTC)
    )
    assert len(trusted) == 2
    assert other in trusted


@pytest.mark.usefixtures("gateway")
async def test_what_somebody_has_changed_is_set_right(site: Site) -> None:
    assert (await site.apply())[0] == 0
    change = {"webhooks": [{"name": "pods.moorgate.test", "failurePolicy": "Ignore"}]}
    await site.api.ok("PATCH", f"{CONFIGURATIONS}/{site.name}-pods", change, content_type=STRATEGIC)
    code, out, _ = await site.apply()
    assert code == 0
    assert [line.split()[0] for line in sorted(out.splitlines())] == ["unchanged", "updated"]
    assert (await site.live())["pods"]["webhooks"][0]["failurePolicy"] == "Fail"


async def test_without_a_gateway_nothing_fails_closed(site: Site) -> None:
    code, _, err = await site.apply(wait_for="2s")
    assert code == 1
    assert "the gateway is away" in err
    assert set(await site.live()) == {"workloads"}


async def test_a_gateway_that_comes_late_is_waited_for(site: Site) -> None:
    waiting = asyncio.create_task(site.apply(wait_for="60s"))
    while "workloads" not in await site.live():
        await asyncio.sleep(0.1)
    assert "pods" not in await site.live()
    runner = await site.serve()
    code, out, err = await waiting
    await runner.cleanup()
    assert (code, out.count("created")) == (0, 2), err


@pytest.mark.usefixtures("gateway")
async def test_a_gateway_with_another_secret_or_authority_is_not_registered(site: Site) -> None:
    await site.kubectl.ok("create", "secret", "generic", "other", "--from-literal=secret=another")
    code, _, err = await site.apply(path_secret="other", wait_for="2s")
    assert code == 1
    assert "does not know the path" in err
    stranger = make_authority(datetime.now(UTC), timedelta(days=9)).certificate
    (site.folder.parent / "stranger").write_bytes(pem([stranger]))
    await site.kubectl.ok(
        "create", "secret", "generic", "stranger", f"--from-file=ca.crt={site.folder.parent / 'stranger'}"
    )
    code, _, err = await site.apply(ca_secret="stranger", wait_for="2s")
    assert code == 1
    assert "the gateway is away" in err
    assert set(await site.live()) == {"workloads"}


@pytest.mark.parametrize(
    ("gateway", "registered"),
    [({"asks_for_certificates": True}, {"pods", "workloads"}), ({"says_nothing": True}, {"workloads"})],
    ids=["asks for certificates", "hangs up on every request"],
)
async def test_of_one_that_hangs_up_only_the_want_of_a_certificate_is_a_good_reason(
    site: Site, gateway: dict[str, bool], registered: set[str]
) -> None:
    runner = await site.serve(**gateway)
    try:
        code, _, err = await site.apply(wait_for="3s")
    finally:
        await runner.cleanup()
    assert set(await site.live()) == registered
    assert (code, "the gateway is away" in err) == ((0, False) if "pods" in registered else (1, True))


async def test_a_look_at_a_gateway_that_is_slow_to_say_goodbye_leaves_no_connection_open() -> None:
    authority = trustme.CA()
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(asking)
    looked = threading.Event()

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        await writer.drain()
        looked.wait(10)  # this loop stands still meanwhile, and answers no goodbye
        writer.transport.abort()

    def look(port: int) -> bool:
        try:
            return asyncio.run(webhooks_gateway._wants_certificate(Target("127.0.0.1", port, "/"), asking))
        finally:
            looked.set()

    server = await asyncio.start_server(speak, "127.0.0.1", 0, ssl=serving)
    async with server:
        gc.collect()  # what others have left
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", ResourceWarning)
            assert not await asyncio.to_thread(look, server.sockets[0].getsockname()[1])
            gc.collect()
    assert [str(each.message) for each in seen] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ca_secret": "none"}, "no authority in ca.crt of the Secret"),
        ({"ca_key": "tls.crt"}, "no authority in tls.crt of the Secret"),
        ({"path_secret": "none"}, "run moorgate secrets apply"),
        ({"owner": "nobody"}, "there is no ClusterRole nobody"),
    ],
    ids=["no Secret", "no bundle", "no path", "no owner"],
)
@pytest.mark.usefixtures("gateway")
async def test_what_is_missing_is_said_and_nothing_registered(
    site: Site, options: dict[str, str], words: str
) -> None:
    code, _, err = await site.apply(wait_for="8s", **options)
    assert (code, words in err) == (1, True), err
    assert await site.live() == {}


@pytest.mark.usefixtures("gateway")
async def test_with_its_owner_the_registration_goes(site: Site) -> None:
    """`helm uninstall` with no gateway alive: Kubernetes' own collector does it."""
    await site.kubectl.ok("create", "clusterrole", site.name, "--verb=get", "--resource=pods")
    assert (await site.apply(owner=site.name))[0] == 0
    assert (await site.apply(owner=site.name))[1].count("unchanged") == 2
    await site.kubectl.ok("delete", "clusterrole", site.name)
    for kind in ("pods", "workloads"):
        await site.kubectl.wait("delete", f"validatingwebhookconfiguration/{site.name}-{kind}", seconds=60)


@pytest.mark.usefixtures("gateway")
async def test_runs_at_once_agree(site: Site) -> None:
    options: dict[str, Any] = {
        "file": site.folder,
        "ca_secret": "ca",
        "ca_key": "ca.crt",
        "path_secret": "path",
    }
    codes = await asyncio.gather(*(asyncio.to_thread(lambda: webhooks.apply(**options)) for _ in range(3)))
    assert codes == [0, 0, 0]
    assert (await site.apply())[1].count("unchanged") == 2


@pytest.mark.usefixtures("gateway")
async def test_breaking_the_glass_is_one_command(site: Site) -> None:
    selector = f"moorgate.test/site={site.name}"
    show: dict[str, Any] = {"selector": selector}
    assert await asyncio.to_thread(lambda: webhooks.status(**show)) == 0
    assert "nothing is registered" in site.capture.readouterr().out
    assert (await site.apply())[0] == 0
    assert await asyncio.to_thread(lambda: webhooks.status(**show)) == 0
    shown = site.capture.readouterr().out
    assert "pods.moorgate.test: Fail, 1 authorities until" in shown
    assert await asyncio.to_thread(lambda: webhooks.remove(dry_run=True, **show)) == 0
    assert site.capture.readouterr().out.count("would remove") == 2
    assert len(await site.live()) == 2
    assert await asyncio.to_thread(lambda: webhooks.remove(**show)) == 0
    out, err = site.capture.readouterr()
    assert out.count("removed") == 2
    assert "Pods are admitted unseen now" in err
    assert await site.live() == {}
    assert await asyncio.to_thread(lambda: webhooks.remove(f"{site.name}-pods")) == 0
    assert "not there" in site.capture.readouterr().out


SERVICE = {"name": "g", "namespace": "n", "path": "/imagecheck"}


def described(**webhook: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "x"},
        "webhooks": [{"name": "w", "clientConfig": {"service": SERVICE}, **webhook}],
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "- 1",
        json.dumps({"apiVersion": "v1", "kind": "Pod"}),
        json.dumps({**described(), "metadata": {}}),
        json.dumps({**described(), "webhooks": []}),
        json.dumps(described(clientConfig={})),
        json.dumps(described(clientConfig={"url": "http://plain"})),
        json.dumps(described(clientConfig={"url": "https://[broken"})),
    ],
)
def test_a_file_at_fault_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content)
    with pytest.raises(BadSetting, match="--file") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadSetting, match="cannot read"):
        load(tmp_path / "nowhere.yaml")


def test_the_service_is_called_by_the_name_the_api_server_uses(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(described()))
    (found,) = load(tmp_path / "x.yaml")
    assert found.fails_closed, "Kubernetes' own default"
    assert found.targets == {Target("g.n.svc", 443, "/imagecheck")}
    assert found.with_path("s").targets == {Target("g.n.svc", 443, "/imagecheck/s")}
    assert found.targets == {Target("g.n.svc", 443, "/imagecheck")}, "the file's own is as it was"


def test_only_what_has_expired_is_not_trusted_any_more() -> None:
    old, live, ours = (make_authority(NOW, timedelta(days=days)).certificate for days in (1, 9, 9))
    later = NOW + timedelta(days=2)
    added = bundle_of(with_added(pem([live, old]), (ours,), later), later)
    assert set(added) == {live, ours}
    before = b"# by hand\n" + pem([ours, live])
    assert with_added(before, (ours,), NOW) == before
    assert bundle_of(with_added(b"no certificate", (ours,), NOW), NOW) == (ours,)
