"""The whole road without a cluster: reviews are posted, policies come from a file, Audits are lines on stdout."""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.services import ROOT
from shared import streams
from tests.support.builders import pod, review
from tests.support.nats import broker_on
from tests.support.road import until

GOOD, BAD = "nginx:1.25", "registry.example/bad/shop:1"
WITHIN = 60.0

POLICIES = """\
apiVersion: security.banzaicloud.com/v1alpha1
kind: ImagePolicy
metadata: {name: lenient}
spec:
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: playground}}
  mode: warn
---
apiVersion: v1
kind: List
items:
  - apiVersion: security.banzaicloud.com/v1alpha1
    kind: ImagePolicy
    metadata: {name: watched}
    spec:
      namespaceSelector:
        matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [watched]}]
      mode: audit
"""


class Site:
    """The processes, and what a test asks of them."""

    def __init__(self, folder: Path, nats: NatsServer) -> None:
        self.folder = folder
        self.policies = folder / "policies.yaml"
        self.policies.write_text(POLICIES)
        self.webhook, self.anchore_port = free_port(), free_port()
        self.ports = {name: free_port() for name in ("gateway", "scanner", "audit_writer")}
        self.lines = folder / "audits.jsonl"
        authority = trustme.CA()
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "tls.pem")
        self.tls = ssl.create_default_context()
        authority.configure_trust(self.tls)
        self._environment = {
            "MOORGATE_CLUSTER": "none",
            "MOORGATE_NATS_URL": nats.url,
            "MOORGATE_POLICIES_FILE": str(self.policies),
            "MOORGATE_LISTEN": f"127.0.0.1:{self.webhook}",
            "MOORGATE_TLS_CERT_FILE": str(folder / "tls.pem"),
            "MOORGATE_TLS_KEY_FILE": str(folder / "tls.pem"),
            "MOORGATE_PATH_SECRET": "abc",
            "MOORGATE_ANCHORE_URL": f"http://127.0.0.1:{self.anchore_port}",
            "MOORGATE_ANCHORE_PASSWORD": "foobar",
        }
        self.anchore = Process(
            name="anchore",
            argv=[sys.executable, "-m", "deploy.dev.anchore", "--port", str(self.anchore_port)],
            log=folder / "anchore.log",
            ready=answers_ok(f"http://127.0.0.1:{self.anchore_port}/health"),
            cwd=ROOT,
        )
        self.services = {name: self._service(name) for name in self.ports}
        self.audit_writer = self.services["audit_writer"]

    def _service(self, name: str) -> Process:
        argv: list[str | Path] = [sys.executable, "-m", f"services.{name}"]
        if name == "audit_writer":  # its stdout holds nothing but Audits
            argv = ["sh", "-c", f'exec "{sys.executable}" -m services.audit_writer >> "{self.lines}"']
        return Process(
            name=name,
            argv=argv,
            log=self.folder / f"{name}.log",
            ready=answers_ok(f"http://127.0.0.1:{self.ports[name]}/readyz"),
            ready_within=60,
            stop_within=30,
            env={**self._environment, "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{self.ports[name]}"},
            cwd=ROOT,
        )

    async def post(self, image: str, name: str, namespace: str = "shop", **metadata: Any) -> dict[str, Any]:
        """What the API server would be answered."""
        body = review(
            pod(image, name=name, namespace=namespace, **metadata),
            namespace=namespace,
            uid=f"{namespace}-{name}-{os.urandom(4).hex()}",
        )
        url = f"https://127.0.0.1:{self.webhook}/imagecheck/abc?timeout=10s"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=body, ssl=self.tls) as answer,
        ):
            assert answer.status == 200, await answer.text()
            response: dict[str, Any] = (await answer.json())["response"]
            return response

    async def tell_anchore(self, command: str, **body: object) -> None:
        url = f"http://127.0.0.1:{self.anchore_port}/simulator/{command}"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            assert answer.status == 200, await answer.text()

    def audits(self, name: str) -> list[dict[str, Any]]:
        """Every line about the Audit; each line is JSON."""
        found = [json.loads(line) for line in self.lines.read_text().splitlines()]
        return [each for each in found if each["metadata"]["name"] == name]

    async def audit(self, name: str, fits: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """The first line about it that fits, once it is there."""

        async def find() -> dict[str, Any] | None:
            return next(filter(fits, self.audits(name)), None)

        found: dict[str, Any] = await until(find, f"a line about {name}", WITHIN)
        return found


@pytest.fixture(scope="module", autouse=True)
def no_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KUBECONFIG", raising=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
async def site(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Site]:
    site = Site(tmp_path, nats_server)
    async with broker_on(nats_server) as broker:
        await streams.apply(broker, 1)
    processes = [site.anchore, *site.services.values()]
    try:
        for each in processes:
            each.launch()
        for each in processes:
            await each.wait_until_ready()
        yield site
    finally:
        for each in reversed(processes):
            each.kill()


def is_allowed(audit: dict[str, Any]) -> bool:
    return bool(audit["spec"]["action"] == "allowed")


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_reviews_are_answered_and_recorded_without_a_cluster(site: Site) -> None:
    async def known() -> bool:
        return bool((await site.post(GOOD, "good"))["allowed"])

    await until(known, "the good image is let in", WITHIN)
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "web-5cd466fccb",
        "uid": "u",
        "controller": True,
    }
    for number in range(3):
        answer = await site.post(GOOD, f"web-{number}", ownerReferences=[owner])
        assert answer["allowed"], answer

    refused = await site.post(BAD, "bad")
    while not refused["allowed"] and refused["status"]["code"] == 429:
        refused = await site.post(BAD, "bad")
    assert refused["status"]["code"] == 403
    warned = await site.post(BAD, "bad", namespace="playground")
    assert warned["allowed"]
    assert any("fails policy bundle" in each for each in warned["warnings"])

    slow = "registry.example/slow/once:1"
    await site.tell_anchore("analysis", reference=slow, seconds=6)
    assert (await site.post(slow, "slow"))["status"]["code"] == 429
    later = "registry.example/slow/later:1"
    await site.tell_anchore(
        "analysis", reference=later, seconds=30
    )  # its record is written before, however busy
    assert (await site.post(later, "later", namespace="watched"))["allowed"]

    first = await site.audit(
        "pod-good", is_allowed
    )  # before that it may have been refused for want of a tenant
    assert (first["apiVersion"], first["kind"]) == ("security.banzaicloud.com/v1alpha1", "Audit")
    assert first["metadata"]["namespace"] == "shop"
    assert first["spec"]["result"] == [f"Image passed policy check: {GOOD}"]
    assert {"uid", "resourceVersion", "ownerReferences"} & first["metadata"].keys() == set()
    web = await site.audit("replicaset-web-5cd466fccb")
    assert [each["reason"] for each in web["status"]["conditions"]] == ["NoCluster"]
    bad = await site.audit("pod-bad", lambda each: each["metadata"]["namespace"] == "shop")
    assert (bad["spec"]["action"], bad["status"]["state"]) == ("reject", "rejected")
    lenient = await site.audit("pod-bad", lambda each: each["metadata"]["namespace"] == "playground")
    assert lenient["spec"]["action"] == "allowed"
    assert lenient["spec"]["images"][0]["policy"] == "lenient"

    # What is known now is not known to the next process; what was let in without a verdict is completed by it.
    open_record = await site.audit("pod-later")
    assert open_record["spec"]["images"][0]["verdict"] == "pending"
    site.audit_writer.kill()
    killed = [await site.post(GOOD, f"while-away-{number}") for number in range(3)]
    assert all(each["allowed"] for each in killed)
    await site.audit_writer.start()
    for number in range(3):
        await site.audit(f"pod-while-away-{number}")
    await site.audit("pod-later", lambda each: each["spec"]["images"][0]["verdict"] == "pass")

    async def admitted() -> bool:
        return bool((await site.post(slow, "slow"))["allowed"])

    await until(admitted, "the slow image is let in after its scan", WITHIN)
    await site.audit("pod-slow")
    assert {each["spec"]["action"] for each in site.audits("pod-slow")} == {
        "allowed"
    }  # a deferral is no Audit
    assert len(site.audits("replicaset-web-5cd466fccb")) == 1  # three Pods with one answer are one line
    assert sum(map(is_allowed, site.audits("pod-good"))) == 1

    codes = {name: await each.stop() for name, each in site.services.items()}
    assert codes == dict.fromkeys(site.services, 0)


@pytest.mark.parametrize(
    ("service", "settings", "line"),
    [
        ("gateway", {"MOORGATE_CLUSTER": "some"}, "MOORGATE_CLUSTER is 'some': it must be one of auto, none"),
        ("scanner", {"MOORGATE_CLUSTER": "some"}, "MOORGATE_CLUSTER is 'some': it must be one of auto, none"),
        ("gateway", {"MOORGATE_TLS_ISSUER": "self"}, "set MOORGATE_TLS_ISSUER=file"),
        ("audit_writer", {"MOORGATE_REPORTS": "openreports"}, "reports are objects of a cluster"),
        ("audit_writer", {"MOORGATE_NOTIFY_FILE": "/n.yaml"}, "nothing is known to run, so nothing flips"),
    ],
)
async def test_what_needs_a_cluster_is_refused_with_one_line(
    service: str, settings: dict[str, str], line: str
) -> None:
    environment = {
        "MOORGATE_CLUSTER": "none",
        "MOORGATE_ALLOW_ANY_CALLER": "true",
        "MOORGATE_NATS_URL": "nats://127.0.0.1:1",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{service}"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert said.decode().count("\n") == 1
    assert line in said.decode()
