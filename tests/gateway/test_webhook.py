"""The HTTPS door as the API server meets it: real ports, real TLS, bodies of every kind."""

import asyncio
import gzip
import io
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import CollectorRegistry

from services.gateway import webhook as webhook_module
from services.gateway.gate import Gate
from services.gateway.image_policies import ImagePolicies
from services.gateway.judge import Judge
from services.gateway.metrics import GatewayMetrics
from services.gateway.namespaces import Namespaces
from services.gateway.outbox import Outbox, OutboxSettings
from services.gateway.scan_rates import Rate, ScanRates
from services.gateway.verdict_lookup import VerdictLookup
from services.gateway.webhook import MAX_BODY, Webhook
from shared import contracts
from shared.broker import Broker, BrokerSettings
from shared.buckets import Entry
from shared.certificates import KeyPair, server_context
from shared.cluster import Cluster
from shared.contracts import Action, AdmissionDecided, Mode, Result
from shared.settings import Secret
from shared.subjects import verdict_key
from shared.verdict_store import VerdictMirror
from shared.whitelist import Whitelist
from tests.support.builders import (
    BUNDLE,
    holder,
    normal,
    pod,
    review,
    rule,
    tenant_record,
    verdict,
    whitelist_item,
)
from tests.support.servers import client_of

JSON = {"Content-Type": "application/json"}


Client = TestClient[Any, Any]


class Gateway:
    """A gateway without NATS, whose memory a test fills by hand."""

    def __init__(self, **rules: Any) -> None:
        self.metrics = GatewayMetrics(CollectorRegistry())
        broker = Broker(BrokerSettings(url="nats://127.0.0.1:9"), "tests", self.metrics)
        self.mirror = VerdictMirror(broker)
        self.whitelist = Whitelist(cluster_wide=True)
        self.outbox = Outbox(broker, self.metrics, OutboxSettings())
        self.mirror.tenants._entries["default"] = Entry(1, contracts.encode(tenant_record()))
        rates = ScanRates(Rate(10_000, 1.0), lambda: 0.0)
        judge = Judge(
            policies=ImagePolicies(rule(**rules)),
            namespaces=Namespaces(cast("Cluster", None)),  # without a policy no namespace is looked at
            lookup=VerdictLookup(self.mirror, broker, rates, self.metrics),
            tenants=self.mirror.tenant,
            is_running=lambda _: False,
        )
        self.gate = Gate(
            whitelist=self.whitelist, release_labels=("release",), judge=judge, outbox=self.outbox
        )

    def know(self, image: str, result: Result = Result.PASS) -> None:
        found = verdict(result, since=datetime.now(UTC))
        key = verdict_key("default", BUNDLE, normal(image))
        self.mirror.verdicts._entries[key] = Entry(7, contracts.encode(found))

    @property
    def recorded(self) -> list[AdmissionDecided]:
        return [contracts.decode(each.payload, contracts.ADMISSION_DECIDED) for each in self.outbox.left()]

    @asynccontextmanager
    async def serving(self, secret: str | None = None) -> AsyncIterator[Client]:
        door = Webhook(
            self.gate, self.metrics, max_wait=3.0, margin=0.5, secret=Secret(secret) if secret else None
        )
        async with client_of(door) as client:
            yield client


@pytest.fixture
def gateway() -> Gateway:
    gateway = Gateway()
    gateway.know("nginx:1")
    gateway.know("bad:1", Result.FAIL)
    return gateway


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Client]:
    async with gateway.serving() as client:
        yield client
        status, answer = await post(client, review(pod("nginx:1")))
        assert (status, answer["response"]["allowed"]) == (200, True), "the gateway goes on afterwards"


async def post(client: Client, body: Any, path: str = "/imagecheck?timeout=10s") -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        text = await response.text()
        return response.status, json.loads(text) if response.status == 200 else text


async def refused(client: Client, status: int, **request: Any) -> str:
    """Such a request is refused with this status and one line that says why."""
    async with client.post("/imagecheck", **{"headers": JSON, **request}) as response:
        text = await response.text()
        assert response.status == status, text
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert len(text) < 600
    return text


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_the_answer_echoes_version_and_uid(client: Client, version: str) -> None:
    asked = review(pod("nginx:1"), version=version)
    status, answer = await post(client, asked)
    assert (status, answer["apiVersion"], answer["kind"]) == (200, asked["apiVersion"], "AdmissionReview")
    assert answer["response"]["uid"] == asked["request"]["uid"]
    assert answer["response"]["allowed"] is True


async def test_a_failing_image_is_refused_with_403_inside_a_200(client: Client, gateway: Gateway) -> None:
    status, answer = await post(client, review(pod("nginx:1", "bad:1")))
    response = answer["response"]
    assert (status, response["allowed"], response["status"]["code"]) == (200, False, 403)
    assert "bad:1" in response["status"]["message"]
    assert "CVE-2026-0001" in response["status"]["message"]
    [decided] = gateway.recorded
    assert (decided.action, [image.image for image in decided.images]) == (
        Action.REJECTED,
        ["nginx:1", "bad:1"],
    )
    assert gateway.metrics.requests.labels("CREATE", "Pod", "rejected")._value.get() == 1


async def test_without_nats_the_unknown_is_refused_with_503(client: Client) -> None:
    _, answer = await post(client, review(pod("unknown:1")))
    assert answer["response"]["status"]["code"] == 503
    assert "nats_unavailable" in answer["response"]["status"]["message"]


async def test_a_text_that_is_no_image_is_refused_by_name(client: Client) -> None:
    _, answer = await post(client, review(pod("Not An Image")))
    assert answer["response"]["status"]["code"] == 503
    assert "bad_reference" in answer["response"]["status"]["message"]


async def test_a_whitelisted_release_comes_in_and_is_told_what_is_wide_open(
    client: Client, gateway: Gateway
) -> None:
    gateway.whitelist.put(whitelist_item("web"))
    _, answer = await post(client, review(pod("bad:1", labels={"release": "web"})))
    assert answer["response"]["allowed"] is True
    assert answer["response"]["warnings"] == [
        "moorgate: WhiteListItem web counts in every namespace; give it spec.namespaces"
    ]
    assert gateway.recorded[0].images[0].whitelist_item == "web"
    gateway.whitelist.put(whitelist_item("web", images=("nginx*",)))
    _, answer = await post(client, review(pod("bad:1", labels={"release": "web"})))
    assert answer["response"]["allowed"] is False, "the item covers other images"


async def test_a_workload_is_warned_about_and_never_refused_or_recorded(
    client: Client, gateway: Gateway
) -> None:
    _, answer = await post(client, review(holder("Deployment", "bad:1"), kind="Deployment"))
    assert answer["response"]["allowed"] is True
    [warning] = answer["response"]["warnings"]
    assert "Pods of this Deployment would be refused" in warning
    assert gateway.recorded == []


async def test_a_dry_run_has_the_same_answer_and_no_record(client: Client, gateway: Gateway) -> None:
    _, dry = await post(client, review(pod("bad:1"), dryRun=True))
    assert gateway.recorded == []
    _, real = await post(client, review(pod("bad:1")))
    assert dry["response"]["status"] == real["response"]["status"]
    assert len(gateway.recorded) == 1


async def test_mode_off_asks_nothing_and_lets_everything_in() -> None:
    gateway = Gateway(mode=Mode.OFF)
    async with gateway.serving() as client:
        _, answer = await post(client, review(pod("unknown:1")))
    assert answer["response"]["allowed"] is True
    assert [image.outcome for image in gateway.recorded[0].images] == ["not_asked"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"kind":"AdmissionReview"}',
        b"\x00" * 1000,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_garbage_is_a_400_with_one_line(client: Client, gateway: Gateway, body: bytes) -> None:
    await refused(client, 400, data=body)
    assert gateway.metrics.bad_requests.labels("400")._value.get() == 1
    assert gateway.recorded == []


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/yaml", "", "application/json; x", "a/b\tc"]
)
async def test_a_mistyped_body_is_a_415(client: Client, content_type: str) -> None:
    if content_type.startswith("application/json"):
        async with client.post("/imagecheck", data=b"{}", headers={"Content-Type": content_type}) as response:
            assert response.status == 400, "parameters of the type are none of our business"
        return
    await refused(client, 415, data=b"{}", headers={"Content-Type": content_type})


async def test_an_oversized_body_is_a_413(client: Client) -> None:
    body = json.dumps(review(pod("nginx:1", annotations={"big": "x" * MAX_BODY}))).encode()
    text = await refused(client, 413, data=io.BytesIO(body))
    assert str(MAX_BODY) in text
    large = json.dumps(review(pod("nginx:1", annotations={"big": "x" * (MAX_BODY - 5000)}))).encode()
    async with client.post("/imagecheck", data=io.BytesIO(large), headers=JSON) as response:
        assert response.status == 200


async def test_a_packed_body_is_not_taken(client: Client) -> None:
    """The API server sends none; a small one could hold gigabytes."""
    packed = {**JSON, "Content-Encoding": "gzip"}
    for body in (gzip.compress(b" " * MAX_BODY), gzip.compress(json.dumps(review(pod("nginx:1"))).encode())):
        await refused(client, 415, data=body, headers=packed)


@pytest.mark.parametrize(
    "field",
    [
        {"namespace": ""},
        {"namespace": "a.b"},
        {"namespace": "*"},
        {"namespace": "shop\n"},
        {"namespace": "x" * 64},
        {"uid": "a\r\nNats-Rollup: all"},
        {"uid": "a b"},
        {"uid": "x" * 300},
        {"uid": ""},
    ],
    ids=repr,
)
async def test_what_would_reach_into_subjects_and_headers_is_a_400(
    client: Client, gateway: Gateway, field: dict[str, str]
) -> None:
    await refused(client, 400, json=review(pod("nginx:1"), **field), headers={})
    assert gateway.recorded == []


async def test_only_post_to_the_one_path(client: Client) -> None:
    for method, path, expected in (
        ("GET", "/imagecheck", 405),
        ("PUT", "/imagecheck", 405),
        ("POST", "/", 404),
        ("POST", "/imagecheck/anything", 404),
        ("POST", "/metrics", 404),
        ("GET", "/healthz", 404),
    ):
        async with client.request(method, path, data=b"{}", headers=JSON) as response:
            assert response.status == expected, (method, path)


async def test_the_secret_is_the_last_part_of_the_path(gateway: Gateway) -> None:
    asked = review(pod("nginx:1"))
    async with gateway.serving("open-sesame") as client:
        assert (await post(client, asked, "/imagecheck/open-sesame?timeout=10s"))[0] == 200
        for path in (
            "/imagecheck",
            "/imagecheck/",
            "/imagecheck/open-sesam",
            "/imagecheck/open-sesame/",
            "/imagecheck/Open-Sesame",
            "/imagecheck/%C3%A9",
            "/imagecheck/%FF",
        ):
            assert (await post(client, asked, path))[0] == 404, path
        assert await raw(
            client, b"POST /imagecheck/\xff HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        ) in (400, 404)
        assert (await post(client, asked, "/imagecheck/open-sesame"))[0] == 200


async def raw(client: Client, request: bytes) -> int:
    """The status that these bytes get."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(request)
    line = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


async def test_a_body_that_does_not_come_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_module, "BODY_TIMEOUT", 0.1)
    head = b"POST /imagecheck HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    assert await raw(client, head) == 408


async def test_a_caller_that_hangs_up_in_the_middle_harms_nobody(client: Client) -> None:
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(
            b"POST /imagecheck HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        await writer.drain()
        writer.transport.abort()


async def test_a_timeout_in_the_gate_is_not_the_bodys(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(gateway.gate, "review", late)
    async with (
        gateway.serving() as client,
        client.post("/imagecheck", json=review(pod("nginx:1"))) as response,
    ):
        assert response.status >= 500, "a bug shows as one, and falls to the failurePolicy"


async def test_invented_kinds_and_operations_make_no_labels(client: Client, gateway: Gateway) -> None:
    await post(client, review({}, kind="Made-up", operation="INVENT"))
    assert gateway.metrics.requests.labels("other", "other", "allowed")._value.get() == 1


async def test_controllers_get_no_hint_and_people_do(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broker, "is_connected", property(lambda _: True))

    async def accept(*_: Any) -> bool:
        return True

    monkeypatch.setattr(Broker, "publish_unless_waiting", accept)
    owner = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": True}]
    asked = {
        "person": review(pod("unknown:1")),
        "owned": review(pod("unknown:1", ownerReferences=owner)),
        "node": review(pod("unknown:1"), userInfo={"username": "system:node:a"}),
        "controller": review(pod("unknown:1"), userInfo={"username": "system:kube-controller-manager"}),
        "account": review(
            pod("unknown:1"), userInfo={"username": "system:serviceaccount:kube-system:job-controller"}
        ),
        "other account": review(
            pod("unknown:1"), userInfo={"username": "system:serviceaccount:shop:deployer"}
        ),
    }
    hints = {}
    async with gateway.serving() as client:
        for who, body in asked.items():
            _, answer = await post(client, body, "/imagecheck?timeout=550ms")
            assert answer["response"]["status"]["code"] == 429
            hints[who] = answer["response"]["status"].get("details", {}).get("retryAfterSeconds")
    expected = {**dict.fromkeys(asked), "person": 2, "other account": 2}
    assert hints == expected


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def server_tls(ca: trustme.CA) -> ssl.SSLContext:
    issued = ca.issue_cert("127.0.0.1")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return server_context(KeyPair(chain, issued.private_key_pem.bytes()), ca.cert_pem.bytes())


async def test_a_client_ca_refuses_callers_without_its_certificate(gateway: Gateway, ca: trustme.CA) -> None:
    door = Webhook(gateway.gate, gateway.metrics, max_wait=3.0, margin=0.5, secret=None)
    known, stranger = ssl.create_default_context(), ssl.create_default_context()
    foreign = ssl.create_default_context()
    for context in (known, stranger, foreign):
        ca.configure_trust(context)
    ca.issue_cert("apiserver").configure_cert(known)
    trustme.CA().issue_cert("apiserver").configure_cert(foreign)
    body = review(pod("nginx:1"))
    runner = web.ServerRunner(door.server())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(ca))
        await site.start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/imagecheck"
        async with aiohttp.ClientSession() as session:
            for context in (stranger, foreign):
                with pytest.raises(aiohttp.ClientError):
                    await session.post(url, json=body, ssl=context)
            async with session.post(url, json=body, ssl=known) as response:
                assert response.status == 200
    finally:
        await runner.cleanup()
    assert len(gateway.recorded) == 1
