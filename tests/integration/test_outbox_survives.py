"""A decision answered is a decision recorded: a real gateway, killed, stopped and restarted with NATS away."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.dev.nats import NatsServer
from deploy.dev.services import ROOT
from shared import subjects
from shared.contracts import Result
from tests.support.gateways import BAD, GOOD, LoneGateway, make_known
from tests.support.nats import broker_on
from tests.support.road import until


@pytest.fixture
async def nats(nats_server: NatsServer) -> NatsServer:
    await make_known(nats_server)
    async with broker_on(nats_server) as broker:
        await broker.jetstream.purge_stream(subjects.EVENTS)
    return nats_server


@pytest.fixture(scope="module", autouse=True)
def known(nats_server: NatsServer) -> None:
    """Two verdicts for the whole module."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(make_known(nats_server, (GOOD, Result.PASS), (BAD, Result.FAIL)))


@pytest.fixture
async def gateway(tmp_path: Path, nats: NatsServer) -> AsyncIterator[LoneGateway]:
    gateway = LoneGateway(tmp_path, nats, OUTBOX_DIR=str(tmp_path / "outbox"))
    async with gateway.process:
        await until(lambda: gateway.metric("moorgate_verdict_mirror_entries"), "verdicts", 30)
        try:
            yield gateway
        finally:
            nats.process.resume() if nats.process.is_running else await nats.start()


async def answered(gateway: LoneGateway, prefix: str, count: int) -> set[str]:
    """Ids of so many Pods that were answered, allowed and rejected ones."""
    async with gateway.caller() as session:
        ids = [f"{prefix}-{number}" for number in range(count)]
        images = [GOOD, BAD] * (count // 2)
        answers = await asyncio.gather(
            *(gateway.ask(session, uid, image) for uid, image in zip(ids, images, strict=True))
        )
    assert [each["allowed"] for each in answers] == [True, False] * (count // 2)
    return set(ids)


async def stored(nats: NatsServer) -> Counter[str]:
    """How often each id is in the stream."""
    found: Counter[str] = Counter()
    async with broker_on(nats) as broker:
        state = (await broker.jetstream.stream_info(subjects.EVENTS)).state
        for number in range(state.first_seq, state.last_seq + 1):
            message = await broker.jetstream.get_msg(subjects.EVENTS, number)
            found[json.loads(message.data or b"{}")["id"]] += 1
    return found


async def test_kill_9_with_nats_away_loses_no_answered_decision(
    gateway: LoneGateway, nats: NatsServer
) -> None:
    ids = await answered(gateway, "before", 20)
    nats.process.kill()
    ids |= await answered(gateway, "away", 100)
    gateway.process.kill()
    await nats.start()
    await gateway.process.start()
    ids |= await answered(gateway, "after", 20)

    async def is_there() -> bool:
        return set(await stored(nats)) >= ids

    await until(is_there, "every decision in the stream", 60)
    assert await stored(nats) == Counter(dict.fromkeys(ids, 1))


async def test_two_gateways_on_one_folder_end_with_one_line(
    gateway: LoneGateway, nats: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    second = LoneGateway(tmp_path / "second", nats, OUTBOX_DIR=str(tmp_path / "outbox"))
    second.process.launch()
    assert await second.process.wait() == 2
    [line] = [each for each in second.log.read_text().splitlines() if each.startswith("moorgate:")]
    assert line.startswith("moorgate: MOORGATE_OUTBOX_DIR: another process uses ")
    assert gateway.process.is_running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of one MiB."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: a full disk needs a mount, and only root may mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: a full disk cannot be mounted here: {mounted.stderr.decode()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no room for anything."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


async def test_on_a_full_disk_nats_records_and_without_nats_nobody_is_let_in(
    tmp_path: Path, nats: NatsServer, small_disk: Path
) -> None:
    folder = str(small_disk / "outbox")
    gateway = LoneGateway(tmp_path, nats, OUTBOX_DIR=folder, OUTBOX_SIZE="1Mi", ON_UNRECORDED="deny")
    async with gateway.process, gateway.caller() as session:
        await until(lambda: gateway.metric("moorgate_verdict_mirror_entries"), "verdicts", 30)
        ids = await answered(gateway, "room", 10)
        filler = fill(small_disk)
        ids |= await answered(gateway, "full", 20)
        assert set(await stored(nats)) >= {each for each in ids if each.startswith("full")}, "when answered"
        nats.process.kill()
        try:
            for image in (GOOD, BAD):
                refused = await gateway.ask(session, f"nobody-{image[:3]}", image, within="2s")
                assert not refused["allowed"]
                assert refused["status"]["code"] == 503
                assert "cannot record its decision" in refused["status"]["message"]
            assert await gateway.metric("moorgate_decisions_unrecorded_total") == 2
            assert await gateway.metric('moorgate_degraded{part="outbox"}') == 1
            filler.unlink()
            ids |= await answered(gateway, "again", 20)
        finally:
            await nats.start()

        async def is_there() -> bool:
            return set(await stored(nats)) >= ids

        await until(is_there, "every answered decision in the stream", 60)
        assert await stored(nats) == Counter(dict.fromkeys(ids, 1)), "and none of a refused answer"


async def test_an_answer_that_waits_for_nats_waits_no_longer_than_it_may(
    tmp_path: Path, nats: NatsServer
) -> None:
    gateway = LoneGateway(tmp_path, nats, OUTBOX_DIR=str(tmp_path / "outbox"), DECISION_DURABILITY="ack")
    async with gateway.process, gateway.caller() as session:
        await until(lambda: gateway.metric("moorgate_verdict_mirror_entries"), "verdicts", 30)
        ids = await answered(gateway, "acknowledged", 10)
        assert set(await stored(nats)) == ids, "when answered"
        nats.process.pause()
        try:
            assert (await gateway.ask(session, "silence", within="3s"))["allowed"]
        finally:
            nats.process.resume()
        assert await gateway.metric("moorgate_decisions_unacknowledged_total") == 1

        async def is_there() -> bool:
            return set(await stored(nats)) == {*ids, "silence"}

        await until(is_there, "it is published when NATS answers again", 60)


@pytest.mark.long
async def test_what_a_stop_prints_can_be_imported(gateway: LoneGateway, nats: NatsServer) -> None:
    nats.process.kill()
    ids = await answered(gateway, "printed", 60)
    assert await gateway.process.stop() == 0
    lines = gateway.output.read_text().splitlines()
    assert {json.loads(each)["id"] for each in lines} == ids
    await nats.start()
    given = "\n".join([*lines, "no decision", '{"event": "nats_disconnected"}', lines[0]])
    for _ in range(2):
        done = await asyncio.to_thread(import_lines, nats, given)
        assert done.returncode == 1, done.stderr
        assert done.stdout == "60 decisions published\n"
        assert done.stderr.startswith("moorgate: line 61: ")
    assert await stored(nats) == Counter(dict.fromkeys(ids, 1))


def import_lines(nats: NatsServer, given: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "outbox", "import", "-"],
        input=given,
        text=True,
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MOORGATE_NATS_URL": nats.url},
    )
