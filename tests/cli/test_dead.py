"""`moorgate dead` on a real NATS, and the letters that the real scanner writes: what it cannot read, and what kills it."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import yaml
from nats.js.api import StreamConfig

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import Process
from deploy.dev.services import ROOT
from services.cli import dead, frame
from services.cli.dead_letters import DeadLetters
from services.scanner import attempts
from shared import contracts, streams, subjects
from shared.broker import Broker
from shared.consumer import MAX_PAYLOAD_KEPT
from shared.contracts import Action, AdmissionDecided, DeadLetter, Result, ScanError, ScanRequest
from shared.subjects import Lane
from tests.audit_writer.notifications import flips
from tests.support.anchore import anchore
from tests.support.scene import DEFAULT, Scene, scene_on

GOOD = "registry.example/bulk/good:1"
KILLER = "registry.example/bulk/killer:1"
WITHIN = 10.0

MORTAL = """
import os, sys
from services.scanner import app, config
from services.scanner.worker import Worker
from shared import lifecycle, streams

streams.ACK_WAIT = 1.0
judge = Worker._judge

async def judge_or_die(worker, request, *more):
    if request.image == os.environ["KILLER"]:
        os._exit(9)
    return await judge(worker, request, *more)

Worker._judge = judge_or_die
sys.exit(lifecycle.start(config.load, app.run))
"""
"""The scanner, but that one image ends its process in the middle of the scan."""


@dataclass
class Answer:
    code: int
    lines: list[str]
    error: str


class Cli:
    """The command, as its process would run it."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    async def __call__(self, name: str, *numbers: int, **options: Any) -> Answer:
        self._capture.readouterr()
        commands: dict[str, Callable[..., int]] = {
            "list": dead.list_letters,
            "retry": dead.retry,
            "drop": dead.drop,
        }
        code = await asyncio.to_thread(commands[name], *numbers, **options)
        out, error = self._capture.readouterr()
        assert "Traceback" not in out + error
        assert error.count("\n") <= max(1, len(numbers))
        return Answer(code, out.splitlines(), error)

    async def letters(self, what: str | None = None) -> list[dict[str, Any]]:
        answer = await self("list", what=what, output="json")
        assert answer.code == 0, answer.error
        found = json.loads("\n".join(answer.lines))
        assert isinstance(found, list)
        return found


@pytest.fixture
def cli(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.setenv("MOORGATE_NATS_URL", nats_server.url)
    # A scanner in this process logs beside the command, into what is captured.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    return Cli(capsys)


@pytest.fixture(autouse=True)
async def empty(broker: Broker) -> None:
    """No letters of the tests before."""
    for stream in (subjects.DEAD, subjects.SCANS, subjects.EVENTS):
        await broker.jetstream.purge_stream(stream)


@pytest.fixture
async def scene(nats_server: NatsServer, broker: Broker) -> AsyncIterator[Scene]:
    async with anchore() as simulator, scene_on(nats_server, broker, simulator) as scene:
        yield scene


def request(image: str = GOOD, tenant: str = "t") -> ScanRequest:
    asked_at = datetime(2026, 1, 1, tzinfo=UTC)
    return ScanRequest(tenant=tenant, image=image, bundle_id=DEFAULT, asked_at=asked_at)


def decision(namespace: str = "shop") -> AdmissionDecided:
    return AdmissionDecided(
        id="uid-1",
        decided_at=datetime.now(UTC),
        namespace=namespace,
        pod_name="web-1",
        pod_uid="",
        operation="CREATE",
        action=Action.ALLOWED,
        code=200,
        release="web",
        fake_release=False,
        user="u",
        images=(),
    )


async def bury(broker: Broker, what: str, payload: bytes | contracts.Message, subject: str = "") -> int:
    """A letter as the consumer writes it; its number."""
    if isinstance(payload, ScanRequest) and not subject:
        subject = subjects.scan_subject(Lane.ADMISSION, payload.tenant, payload.key)
    letter = DeadLetter(
        what=what,
        reason="because",
        subject=subject or "moorgate.v1.scan.admission.t.x",
        stream=subjects.SCANS,
        sequence=7,
        deliveries=5,
        died_at=datetime.now(UTC),
        payload=payload if isinstance(payload, bytes) else contracts.encode(payload),
    )
    return await broker.publish_raw(subjects.dead_subject(what), contracts.encode(letter), {})


async def count(broker: Broker, stream: str) -> int:
    return int((await broker.jetstream.stream_info(stream)).state.messages)


# Reading.


async def test_without_letters_it_says_so(cli: Cli) -> None:
    assert await cli("list") == Answer(0, ["no dead letters"], "")
    assert await cli.letters() == []
    for name in ("retry", "drop"):
        assert await cli(name, every=True) == Answer(0, [], "")


async def test_the_table_says_what_died_and_of_what(cli: Cli, broker: Broker) -> None:
    numbers = [
        await bury(broker, "scan", request()),
        await bury(broker, "decision", decision()),
        await bury(broker, "notification", flips.flip()),
        await bury(broker, "scan", b"\xff\x1b[31m\n not JSON"),
    ]
    answer = await cli("list")
    heading, *rows = answer.lines
    assert heading.split() == ["SEQUENCE", "WHEN", "WHAT", "DELIVERIES", "REASON", "ABOUT"]
    assert [int(row.split()[0]) for row in rows] == numbers
    for row, told in zip(rows, (GOOD, "shop/web-1 allowed", "turned to", "not readable"), strict=True):
        assert told in row
        assert "because" in row
        assert row.isprintable()
    assert [each["sequence"] for each in await cli.letters("scan")] == [numbers[0], numbers[3]]
    assert (await cli("list", what="decision")).lines[1].split()[0] == str(numbers[1])


async def test_a_letter_that_nobody_can_read_is_shown_and_dropped(cli: Cli, broker: Broker) -> None:
    number = await broker.publish_raw(subjects.dead_subject("scan"), b"{}", {})
    assert "cannot be read" in (await cli("list")).lines[1]
    assert "cannot be read" in (await cli("retry", number)).error
    assert (await cli("drop", number)).code == 0
    assert await cli.letters() == []


# Trying again.


async def test_a_scan_is_asked_anew_and_its_letter_goes(cli: Cli, broker: Broker) -> None:
    asked = request(tenant="t-retry")
    number = await bury(broker, "scan", asked)
    answer = await cli("retry", number)
    assert answer == Answer(0, [f"{number}: asked again"], "")
    subject = subjects.scan_subject(Lane.ADMISSION, asked.tenant, asked.key)
    message = await broker.jetstream.get_last_msg(subjects.SCANS, subject)
    again = contracts.decode(message.data or b"", contracts.SCAN_REQUEST)
    assert again == msgspec.structs.replace(again, image=asked.image, bundle_id=asked.bundle_id)
    assert (datetime.now(UTC) - again.asked_at).total_seconds() < 60, "an old one would be too slow at once"
    assert await cli.letters() == []


async def test_a_scan_that_waits_already_is_not_asked_twice(cli: Cli, broker: Broker) -> None:
    first, second = [await bury(broker, "scan", request(tenant="t-twice")) for _ in range(2)]
    answer = await cli("retry", first, second)
    assert answer.lines == [f"{first}: asked again", f"{second}: is being asked for already"]
    assert await count(broker, subjects.SCANS) == 1


async def test_a_decision_is_published_though_its_id_is_still_remembered(cli: Cli, broker: Broker) -> None:
    decided = decision()
    subject = subjects.decision_subject(decided.namespace)
    await broker.publish(subject, decided, decided.id)
    number = await bury(broker, "decision", decided, subject)
    before = await count(broker, subjects.EVENTS)
    assert (await cli("retry", number)).lines == [f"{number}: published again"]
    assert await count(broker, subjects.EVENTS) == before + 1
    message = await broker.jetstream.get_last_msg(subjects.EVENTS, subject)
    assert (message.headers or {})["ce-id"] == decided.id
    assert contracts.decode(message.data or b"", contracts.ADMISSION_DECIDED) == decided


async def test_interrupted_between_it_is_published_twice_and_never_lost(
    cli: Cli, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    number = await bury(broker, "scan", request(tenant="t-died"))
    with monkeypatch.context() as patch:
        patch.setattr(DeadLetters, "drop", die)
        assert (await cli("retry", number)).code == 130
    assert await count(broker, subjects.SCANS) == 1
    assert [each["sequence"] for each in await cli.letters()] == [number]
    assert (await cli("retry", number)).code == 0
    assert await cli.letters() == []


async def test_that_an_attempt_was_begun_is_remembered_while_its_request_lives(scene: Scene) -> None:
    """A kubelet keeps one that died from starting again for up to five minutes: none may begin to count anew then."""
    now = datetime.now(UTC)
    known = attempts.Known(verdict=None, revision=0, state=None, state_revision=0)
    begun = attempts.begun_again(request(tenant=scene.tenant), known, now)
    await scene.buckets.put_state("t.b.begun", begun, now)
    assert await scene.lifetime(subjects.SCAN_STATES, "t.b.begun") == 3600
    await scene.buckets.put_state("t.b.begun", msgspec.structs.replace(begun, begun=0), now)
    assert await scene.lifetime(subjects.SCAN_STATES, "t.b.begun") == 60


@pytest.mark.parametrize(
    ("what", "payload", "says"),
    [
        ("scan", b"\xff", "cannot be read"),
        ("scan", b" " * MAX_PAYLOAD_KEPT, "cut"),
        ("scan", contracts.encode(request(tenant="another")), "subject"),
        ("decision", b"{}", "cannot be read"),
        ("decision", contracts.encode(decision()), "namespace"),
        ("notification", contracts.encode(flips.flip()), "target"),
        ("novelty", b"{}", "does not know"),
    ],
)
async def test_what_cannot_be_tried_again_is_refused_and_stays(
    cli: Cli, broker: Broker, what: str, payload: bytes, says: str
) -> None:
    number = await bury(broker, what, payload)
    before = await count(broker, subjects.SCANS), await count(broker, subjects.EVENTS)
    answer = await cli("retry", number)
    assert answer.code == 1
    assert f"{number}: " in answer.error
    assert says in answer.error
    assert (await count(broker, subjects.SCANS), await count(broker, subjects.EVENTS)) == before
    assert [each["sequence"] for each in await cli.letters()] == [number]


async def test_one_that_cannot_be_helped_stops_no_other(cli: Cli, broker: Broker) -> None:
    bad = await bury(broker, "scan", b"\xff")
    good = await bury(broker, "scan", request(tenant="t-other"))
    answer = await cli("retry", every=True)
    assert (answer.code, answer.lines) == (1, [f"{good}: asked again"])
    assert [each["sequence"] for each in await cli.letters()] == [bad]


# Dropping.


async def test_letters_are_dropped_by_number_and_by_kind(cli: Cli, broker: Broker) -> None:
    scans = [await bury(broker, "scan", request()) for _ in range(3)]
    kept = await bury(broker, "decision", decision())
    assert (await cli("drop", scans[1], scans[1])).lines == [f"{scans[1]}: dropped"]
    assert [each["sequence"] for each in await cli.letters()] == [scans[0], scans[2], kept]
    assert (await cli("drop", every=True, what="scan")).lines == [f"{each}: dropped" for each in scans[::2]]
    assert [each["sequence"] for each in await cli.letters()] == [kept]
    again = await cli("drop", scans[0])
    assert (again.code, again.lines) == (1, [])
    assert f"there is no dead letter {scans[0]}" in again.error


async def test_programs_are_told_what_came_of_each(cli: Cli, broker: Broker) -> None:
    letter = await bury(broker, "scan", request())
    answer = await cli("drop", letter, 999_999, output="yaml")
    assert answer.code == 1
    assert yaml.safe_load("\n".join(answer.lines)) == [
        {"sequence": letter, "done": "dropped", "error": ""},
        {"sequence": 999_999, "done": "", "error": "there is no dead letter 999999; see: moorgate dead list"},
    ]
    assert (await cli("list", output="yaml")).lines == ["[]"]


@pytest.mark.parametrize("options", [{}, {"what": "scan"}, {"numbers": (1,), "every": True}, {"what": "a.b"}])
@pytest.mark.parametrize("name", ["retry", "drop"])
async def test_which_letters_must_be_said(cli: Cli, name: str, options: dict[str, Any]) -> None:
    numbers = options.get("numbers", ())
    answer = await cli(name, *numbers, **{key: each for key, each in options.items() if key != "numbers"})
    assert answer.code == 2
    assert answer.error.startswith("moorgate: ")


@pytest.mark.parametrize("number", [-1, 0, 999_999])
async def test_a_number_that_is_none_of_theirs_is_named(cli: Cli, number: int) -> None:
    for name in ("retry", "drop"):
        answer = await cli(name, number)
        assert (answer.code, answer.lines) == (1, [])
        assert f"no dead letter {number}" in answer.error


# Neighbours.


async def test_without_nats_one_line_helps(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "REFUSED_TIMEOUT", 0.3)
    url = f"nats://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MOORGATE_NATS_URL", url)
    answer = await cli("list")
    assert (answer.code, answer.lines) == (3, [])
    assert url in answer.error
    monkeypatch.setenv("MOORGATE_NATS_URL", "http://x")
    assert (await cli("list")).code == 2


async def test_without_the_stream_one_line_helps(cli: Cli, broker: Broker) -> None:
    await broker.jetstream.delete_stream(subjects.DEAD)
    try:
        for answer in (await cli("list"), await cli("retry", 1), await cli("drop", every=True)):
            assert (answer.code, answer.lines) == (3, [])
            assert "moorgate streams apply" in answer.error
    finally:
        [config] = [each for each in streams.stream_configs(1) if each.name == subjects.DEAD]
        assert isinstance(config, StreamConfig)
        await broker.jetstream.add_stream(config)


async def test_the_program_has_the_command(nats_server: NatsServer) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "dead", "drop", "1", "2",
        cwd=ROOT,
        env={**os.environ, "MOORGATE_NATS_URL": nats_server.url},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, error = await asyncio.wait_for(child.communicate(), 20)
    assert child.returncode == 1
    assert error.decode().splitlines() == [
        f"moorgate: there is no dead letter {number}; see: moorgate dead list" for number in (1, 2)
    ]


# What the scanner gives up.


async def test_a_request_that_the_scanner_cannot_read_is_listed(cli: Cli, scene: Scene) -> None:
    died = await scene.broker.client.subscribe(subjects.dead_subject("scan"))
    async with scene.scanner():
        await scene.broker.publish_raw(scene.subject(GOOD), b"\xff no request", {})
        await died.next_msg(WITHIN)
        [letter] = await cli.letters()
        assert letter["subject"] == scene.subject(GOOD)
        assert "not readable" in letter["about"]
        assert (await cli("retry", letter["sequence"])).code == 1
        assert (await scene.scanned(GOOD)).result is Result.PASS, "the queue goes on"


class Supervisor:
    """Starts the scanner anew whenever it dies, as a kubelet does."""

    def __init__(self, scene: Scene, nats: NatsServer, folder: Path) -> None:
        tenant = {"url": scene.simulator.url, "username": "admin", "password": "foobar", "api": "v1"}
        (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": {scene.tenant: tenant}}))
        self.deaths = 0
        self.log = folder / "scanner.log"
        self._process = Process(
            name="mortal scanner",
            argv=[sys.executable, "-c", MORTAL],
            log=self.log,
            cwd=ROOT,
            env={
                "KILLER": KILLER,
                "MOORGATE_NATS_URL": nats.url,
                "MOORGATE_METRICS_LISTEN": "127.0.0.1:0",
                "MOORGATE_TENANTS_FILE": str(folder / "tenants.yaml"),
            },
        )

    @asynccontextmanager
    async def supervising(self) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            await self._process.stop()

    async def _watch(self) -> None:
        while True:
            self._process.launch()
            assert await self._process.wait() == 9, self.log.read_text()
            self.deaths += 1


async def test_a_request_that_kills_the_scanner_is_given_up_until_somebody_retries_it(
    cli: Cli, scene: Scene, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "ACK_WAIT", 1.0)
    supervisor = Supervisor(scene, nats_server, tmp_path)
    died = await scene.broker.client.subscribe(subjects.dead_subject("scan"))
    async with supervisor.supervising():
        assert await scene.ask(KILLER)
        await died.next_msg(60)
        assert supervisor.deaths <= attempts.MAX_BEGUN
        assert (await scene.scanned(GOOD)).result is Result.PASS, "the queue goes on"
        first = await scene.state(KILLER)
        await scene.ask_again(KILLER)
        second = await scene.state(KILLER, lambda state: state.attempt > first.attempt)
        assert isinstance(second, ScanError)
        assert "moorgate dead list" in second.message
        await scene.scanned(GOOD, seen=(await scene.verdict(GOOD)).revision)
        assert supervisor.deaths <= attempts.MAX_BEGUN, "nobody dies of it any more"
    [letter] = await cli.letters("scan")
    assert KILLER in letter["about"]
    assert "ended its scanner" in letter["reason"]
    async with scene.scanner():
        await scene.ask_again(KILLER)
        await scene.state(KILLER, lambda state: state.attempt > second.attempt)
        assert scene.mirror.verdict(scene.key(KILLER)) is None, (
            "a mended scanner does not know that it is mended"
        )
        assert (await cli("retry", letter["sequence"])).code == 0
        assert (await scene.verdict(KILLER)).verdict.result is Result.PASS
    assert await cli.letters() == []
