"""Anchore's notifications reach the scanner's own port, and what they are about is looked at again at once.

The simulator posts what a real Engine was recorded to post, over TLS, to the real service between a real NATS and itself.
"""

import asyncio
import base64
import contextlib
import io
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from structlog.testing import capture_logs

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from services.scanner import delays, hints, notifications
from services.scanner.notifications import MAX_BODY
from shared import logs, streams, subjects
from shared.broker import Broker
from shared.contracts import Result, ScanPending
from shared.lifecycle import background
from shared.subjects import Lane
from shared.verdict_store import VerdictMirror
from tests.support.anchore import Simulator, anchore
from tests.support.recordings import load
from tests.support.scene import DEFAULT, WITHIN, Scene

SECRET = "s3cret-of-the-receiver"
BULK = "registry.example/bulk/told:1"
GOOD = "registry.example/bulk/good:1"
BAD = "registry.example/bad/app:1"
PATH = f"/notifications/{SECRET}"

KINDS = ["analysis_update", "policy_eval", "vuln_update"]
RECORDED = {"analysis_update": 190, "policy_eval": 194, "vuln_update": 222, "tag_update": 302}


class Site(Scene):
    """A scene whose scanner takes notifications, and whose simulator sends them there."""

    def __init__(
        self, nats: NatsServer, broker: Broker, mirror: VerdictMirror, simulator: Simulator, port: int
    ) -> None:
        super().__init__(nats, broker, mirror, simulator, "v1")
        self.port = port
        self.authority = trustme.CA()
        self.folder = Path()

    def issue(self, folder: Path) -> None:
        self.folder = folder
        leaf = self.authority.issue_cert("127.0.0.1")
        leaf.private_key_pem.write_to_path(folder / "tls.key")
        (folder / "tls.crt").write_bytes(b"".join(each.bytes() for each in leaf.cert_chain_pems))

    @asynccontextmanager
    async def told(self, **settings: str) -> AsyncIterator[aiohttp.ClientSession]:
        """The service, ready, and a client of its port."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        wanted = {
            "NOTIFICATIONS_LISTEN": f"127.0.0.1:{self.port}",
            "NOTIFICATIONS_CERT_FILE": str(self.folder / "tls.crt"),
            "NOTIFICATIONS_KEY_FILE": str(self.folder / "tls.key"),
            "NOTIFICATIONS_SECRET": SECRET,
            **settings,
        }
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            self.scanner(**wanted),
            aiohttp.ClientSession(f"https://127.0.0.1:{self.port}", connector=connector) as session,
        ):
            await self.lane_is_there(subjects.lane_durable(Lane.RESCAN, self.tenant))
            await self.record(lambda record: DEFAULT in record.bundles)
            yield session

    async def counted(self, kind: str, result: str) -> float:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        name = f'moorgate_anchore_notifications_total{{result="{result}",type="{kind}"}} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    async def settled(self, kind: str, result: str, times: int = 1) -> None:
        """So many notifications were looked into, with this result."""
        async with asyncio.timeout(WITHIN):
            while await self.counted(kind, result) < times:
                continue

    async def lane_is_empty(self, lane: Lane) -> None:
        """Nothing waits in the lane, and nothing is put off."""
        async with asyncio.timeout(WITHIN):
            while await streams.lane_backlog(self.broker, lane, self.tenant) != (0, 0):
                continue


@pytest.fixture(autouse=True)
async def made_streams(broker: Broker) -> None:
    """The broker's fixture makes them."""


@pytest.fixture
async def site(nats_server: NatsServer, broker: Broker, tmp_path: Path) -> AsyncIterator[Site]:
    port = free_port()
    url = f"https://127.0.0.1:{port}/notifications?account=<userId>&type=<notification_type>"
    settings: dict[str, Any] = {
        "webhooks": {"general": url},
        "webhook_user": "anchore",
        "webhook_pass": SECRET,
        "notification_seconds": 0,
        "analysis_seconds": 60,
    }
    mirror = VerdictMirror(broker)
    async with anchore(**settings) as simulator, background(*(each.run() for each in mirror.mirrors)):
        for each in mirror.mirrors:
            await asyncio.wait_for(each.ready.wait(), WITHIN)
        site = Site(nats_server, broker, mirror, simulator, port)
        site.issue(tmp_path)
        yield site


def looks_are(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(delays, "FIRST_LOOK", seconds)
    monkeypatch.setattr(delays, "LONGEST_LOOK", seconds)


def notification(kind: str, image: str | None, digest: str) -> dict[str, Any]:
    """The recorded post of this kind, about another image."""
    recorded = next(each for each in load() if each.number == RECORDED[kind])
    body = json.loads(json.dumps(recorded.request["body"]))
    payload = body["data"]["notification_payload"]
    assert ("subscription_key" in payload) is (image is not None)
    if image is not None:
        payload["subscription_key"] = image
    match kind:
        case "tag_update":
            payload["curr_eval"] = [digest]
        case "vuln_update":
            payload["imageDigest"] = digest
        case _:
            for name in ("curr_eval", "last_eval"):
                field = "image_digest" if kind == "policy_eval" else "imageDigest"
                assert field in payload[name]
                payload[name][field] = digest
    assert isinstance(body, dict)
    return body


async def post(session: aiohttp.ClientSession, body: Any, path: str = PATH) -> int:
    async with session.post(path, json=body) as response:
        return response.status


# A hint, and what comes of it.


async def test_a_pending_image_is_answered_when_anchore_tells_that_it_is_analysed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks_are(monkeypatch, 30)
    async with site.told():
        assert await site.ask(BULK)
        pending = await site.pending(BULK)
        site.simulator.engine.clock.advance(60)
        async with asyncio.timeout(3):
            assert await site.simulator.deliver() == 1
            stored = await site.verdict(BULK)
        await site.cleared(BULK)
        await site.settled("analysis_update", "asked")
    assert stored.verdict.result is Result.PASS
    assert (pending.next_look - datetime.now(UTC)).total_seconds() > 15, "no look of its own did that"


async def test_the_request_that_was_put_off_finds_the_verdict_and_ends_without_a_call(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks_are(monkeypatch, 2)
    async with site.told():
        assert await site.ask(BULK)
        pending = await site.pending(BULK)
        site.simulator.engine.clock.advance(60)
        assert await site.simulator.deliver() == 1
        await site.verdict(BULK)
        assert datetime.now(UTC) < pending.next_look, "the hint was faster"
        await site.lane_is_empty(Lane.RESCAN)
        calls = site.calls()
        assert not await site.ask(BULK), "it is still put off"
        await site.lane_is_empty(Lane.ADMISSION)
        assert site.calls() == calls


@pytest.mark.parametrize("written", ["{name}@{digest}", "{name}:1@{digest}"])
async def test_a_pending_image_named_by_digest_is_found_too(
    site: Site, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    looks_are(monkeypatch, 30)
    digest = site.simulator.image(BULK).digest
    image = written.format(name=BULK.removesuffix(":1"), digest=digest)
    async with site.told():
        assert await site.ask(image)
        await site.pending(image)
        site.simulator.engine.clock.advance(60)
        assert await site.simulator.deliver() == 1
        assert (await site.verdict(image)).verdict.digest == digest


@pytest.mark.parametrize("kind", KINDS)
async def test_a_standing_verdict_is_scanned_again(site: Site, kind: str) -> None:
    image = site.simulator.preload(GOOD)
    async with site.told() as session:
        await site.scanned(GOOD)
        before = await site.verdict(GOOD)
        assert await post(session, notification(kind, GOOD, image.digest)) == 200
        after = await site.verdict(GOOD, before.revision)
    assert after.verdict.evaluated_at > before.verdict.evaluated_at


async def test_a_moved_tag_is_found_by_its_digest(site: Site) -> None:
    site.simulator.preload(GOOD)
    async with site.told() as session:
        await site.scanned(GOOD)
        before = await site.verdict(GOOD)
        moved = site.simulator.push(GOOD)
        site.simulator.preload(GOOD)
        assert await post(session, notification("tag_update", None, moved.digest)) == 200
        after = await site.verdict(GOOD, before.revision)
    assert after.verdict.digest == moved.digest != before.verdict.digest


async def test_every_bundle_under_which_the_image_is_known_is_asked_for_and_no_other(site: Site) -> None:
    image = site.simulator.preload(GOOD)
    other = site.key(GOOD, "another")
    async with site.told() as session:
        await site.scanned(GOOD)
        before = await site.verdict(GOOD)
        assert await post(session, notification("policy_eval", GOOD, image.digest)) == 200
        await site.verdict(GOOD, before.revision)
    assert site.mirror.verdict(other) is None
    assert site.mirror.state(other) is None


async def test_enterprise_and_its_events_are_understood(site: Site) -> None:
    image = site.simulator.preload(GOOD)
    payload = {"account_name": "admin", "subscription_key": GOOD, "image_digest": image.digest}
    posts: list[tuple[str, dict[str, Any]]] = [
        ("vuln_update", {"data": {"notification_type": "vuln_update", "notification_payload": payload}}),
        ("event_log", {"event": {"resource": {"id": GOOD, "type": "image_tag", "account_name": "admin"}}}),
        ("event_log", {"resource": {"id": image.digest, "type": "image_digest"}}),
    ]
    async with site.told() as session:
        await site.scanned(GOOD)
        for kind, body in posts:
            before = await site.verdict(GOOD)
            assert await post(session, body) == 200
            await site.verdict(GOOD, before.revision)
            assert await site.counted(kind, "asked") >= 1
            await site.lane_is_empty(Lane.RESCAN)


# What causes nothing.


async def test_a_forged_notification_changes_no_verdict(site: Site) -> None:
    image = site.simulator.preload(BAD)
    forged = notification("policy_eval", BAD, image.digest)
    for name in ("curr_eval", "last_eval"):
        forged["data"]["notification_payload"][name] |= {"final_action": "go", "status": "pass"}
    async with site.told() as session:
        first = await site.scanned(BAD)
        before = await site.verdict(BAD)
        assert await post(session, forged) == 200
        after = await site.verdict(BAD, before.revision)
    assert first.result is after.verdict.result is Result.FAIL
    assert first.reasons == after.verdict.reasons
    assert first.failing_since == after.verdict.failing_since


@pytest.mark.parametrize("kind", KINDS)
async def test_of_an_image_that_nobody_asked_for_nothing_is_asked(site: Site, kind: str) -> None:
    image = site.simulator.preload(GOOD)
    async with site.told() as session:
        assert await post(session, notification(kind, GOOD, image.digest)) == 200
        await site.settled(kind, "not_ours")
    assert site.calls() == {}
    assert site.mirror.verdict(site.key(GOOD)) is None


@pytest.mark.parametrize("number", [317, 318, 319, 320, 196, 323, 324])
async def test_recorded_posts_about_nothing_of_ours_are_taken(site: Site, number: int) -> None:
    recorded = next(each for each in load() if each.number == number)
    kind = recorded.request["body"]["data"]["notification_type"]
    async with site.told() as session:
        assert await post(session, recorded.request["body"]) == 200
        await site.settled(kind, "not_ours")
    assert set(site.calls()) <= {"image_get"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"userId": 7, "data": {"notification_type": ["x"], "notification_payload": {"curr_eval": 1}}},
        {"data": {"notification_payload": {"subscription_key": "A b", "curr_eval": [None, {}]}}},
    ],
)
async def test_what_says_nothing_is_taken_and_forgotten(site: Site, body: object) -> None:
    async with site.told() as session:
        assert await post(session, body) == 200
        await site.settled("other", "not_ours")
    assert site.calls() == {}


async def test_an_event_has_its_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "MAX_KEYS", 0)
    image = site.simulator.preload(GOOD)
    async with site.told() as session:
        await site.scanned(GOOD)
        calls = site.calls()
        assert await post(session, notification("policy_eval", GOOD, image.digest)) == 200
        await site.settled("policy_eval", "not_ours")
    assert site.calls() == calls


# The door.


def basic(password: str, user: str = "anybody") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("asked", "headers", "status"),
    [
        (f"POST {PATH}", {}, 200),
        (f"POST {PATH}/admin/policy_eval?x=y", {}, 200),
        ("POST /notifications", basic(SECRET), 200),
        ("POST /notifications/admin/tag_update", basic(SECRET, ""), 200),
        ("POST /notifications", {}, 401),
        ("POST /notifications/", {}, 401),
        (f"POST /notifications/{SECRET}x", {}, 401),
        (f"POST /notifications/admin/{SECRET}", {}, 401),
        ("POST /notifications", basic(SECRET[:-1]), 401),
        ("POST /notifications", basic("", SECRET), 401),
        ("POST /notifications", {"Authorization": f"Bearer {SECRET}"}, 401),
        ("POST /notifications", {"Authorization": "Basic \u00e4\u00f6"}, 401),
        ("POST /", basic(SECRET), 404),
        (f"POST /{SECRET}", {}, 404),
        (f"GET {PATH}", {}, 405),
        ("PUT /notifications", basic(SECRET), 405),
    ],
)
async def test_only_who_knows_the_secret_is_heard(
    site: Site, asked: str, headers: dict[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.told() as session:
        with capture_logs() as logged:
            async with session.request(*asked.split(), json={}, headers=headers) as response:
                assert response.status == status
                answer = await response.text()
    for told in (answer, str(logged), caplog.text):
        assert SECRET not in told


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"no JSON", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"data": []}', 400),
        (b"[" * 200_000, 400),
        (b'{"data":{"notification_payload":{"curr_eval":' + b"[" * 50_000 + b"]" * 50_000 + b"}}}", 400),
        (b'"' + b"x" * MAX_BODY, 413),
    ],
    ids=["empty", "words", "list", "binary", "other shape", "deep", "deep inside", "huge"],
)
async def test_what_is_no_notification_is_refused_in_one_line(site: Site, body: bytes, status: int) -> None:
    async with site.told() as session:
        async with session.post(PATH, data=io.BytesIO(body)) as response:
            assert response.status == status
            text = await response.text()
        assert await site.counted("other", "malformed") == 1
    assert text.count("\n") == 1
    assert len(text) < 400
    assert site.calls() == {}


async def test_whole_evaluations_fit(site: Site) -> None:
    image = site.simulator.preload(GOOD)
    large = notification("policy_eval", GOOD, image.digest)
    large["data"]["notification_payload"]["curr_eval"]["result"]["more"] = "x" * (MAX_BODY - 20_000)
    async with site.told() as session:
        await site.scanned(GOOD)
        async with session.post(PATH, data=io.BytesIO(json.dumps(large).encode())) as response:
            assert response.status == 200
        await site.settled("policy_eval", "asked")


async def test_a_body_without_end_ends(site: Site) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 65536

    async with site.told() as session:
        with contextlib.suppress(aiohttp.ClientConnectionError):  # cut off before the answer was read
            async with session.post(PATH, data=endless()) as response:
                assert response.status == 413
        assert await post(session, {}) == 200
    assert sent * 65536 < 64 * MAX_BODY


async def test_who_sends_slowly_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "BODY_TIMEOUT", 0.3)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with site.told() as session:
        async with session.post(PATH, data=slow()) as response:
            assert response.status == 408
        assert await post(session, {}) == 200


async def test_a_packed_body_is_not_unpacked(site: Site) -> None:
    headers = {"Content-Encoding": "gzip"}
    async with site.told() as session, session.post(PATH, data=b"\x1f\x8b", headers=headers) as response:
        assert response.status == 415


async def test_more_than_can_be_read_at_once_is_asked_to_come_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "MAX_BODIES", 1)
    begun = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield b"{"
        begun.set()
        await asyncio.Event().wait()

    async with site.told() as session:
        first = asyncio.create_task(session.post(PATH, data=hanging()))
        await begun.wait()
        async with asyncio.timeout(WITHIN):
            while await post(session, {}) != 503:
                continue
        first.cancel()
        async with asyncio.timeout(WITHIN):
            while await post(session, {}) != 200:
                continue
        assert await site.counted("other", "busy") >= 1


async def test_more_than_can_be_looked_into_is_asked_to_come_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "MAX_WAITING", 1)
    monkeypatch.setattr(hints, "AT_ONCE", 0)
    async with site.told() as session:
        assert [await post(session, {}) for _ in range(3)] == [200, 503, 503]


async def test_without_tls_nothing_is_heard(site: Site) -> None:
    async with site.told(), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await post(session, {}, f"http://127.0.0.1:{site.port}{PATH}")
    assert site.calls() == {}


async def test_what_is_no_http_puts_no_secret_into_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    logs.hide_requests()  # as logs.set_up does
    context = ssl.create_default_context()
    site.authority.configure_trust(context)
    lines = (f"P\x00ST {PATH} HTTP/1.1", f"POST {PATH} HTTP/9", f"POST {PATH} HTTP/1.1\r\nbad header")
    async with site.told():
        with capture_logs() as logged:
            for line in lines:
                reader, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=context)
                writer.write(f"{line}\r\n\r\n".encode())
                assert (await asyncio.wait_for(reader.read(), WITHIN)).startswith(b"HTTP/1.")
                writer.close()
                await writer.wait_closed()
    assert "Error handling request" in caplog.text
    assert SECRET not in caplog.text + str(logged)


async def test_a_new_certificate_is_shown_without_a_restart(site: Site) -> None:
    context = ssl.create_default_context()
    site.authority.configure_trust(context)

    async def shown() -> object:
        _, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=context)
        certificate = writer.get_extra_info("ssl_object").getpeercert()
        writer.close()
        await writer.wait_closed()
        return certificate["serialNumber"]

    async with site.told():
        before = await shown()
        site.issue(site.folder)
        async with asyncio.timeout(WITHIN):
            while await shown() == before:
                continue


async def test_who_comes_first_is_not_pending_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hint that comes too early leaves two requests waiting; the analysis' end answers both."""
    looks_are(monkeypatch, 0.3)
    digest = site.simulator.image(BULK).digest
    async with site.told() as session:
        assert await site.ask(BULK)
        first = await site.pending(BULK)
        assert await post(session, notification("analysis_update", BULK, digest)) == 200
        await site.settled("analysis_update", "asked")
        await site.pending(BULK, lambda state: state.attempt > first.attempt + 1)
        site.simulator.engine.clock.advance(60)
        await site.verdict(BULK)
        for lane in Lane:
            await site.lane_is_empty(lane)
        assert not isinstance(site.mirror.state(site.key(BULK)), ScanPending)
