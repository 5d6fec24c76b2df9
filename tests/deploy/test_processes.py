"""Child processes: readiness, failure with the log's end, restart, and no orphans even under kill -9."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.dev.nats import NatsServer
from deploy.dev.ports import FIRST, LAST, free_port
from deploy.dev.processes import Process, ProcessError

ORPHAN_MAKER = """
import asyncio, sys
from pathlib import Path
from deploy.dev.processes import Process
child = Process(name="sleeper", argv=["sleep", "600"], log=Path(sys.argv[1]))
asyncio.run(child.start())
print(child.pid, flush=True)
sys.stdin.read()
"""


async def never() -> bool:
    return False


def shell(tmp_path: Path, script: str, ready_within: float = 30) -> Process:
    return Process(
        name="shell",
        argv=["sh", "-c", script],
        log=tmp_path / "log",
        ready=never,
        ready_within=ready_within,
    )


async def test_program_that_ends_early_quotes_its_log(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="no such port"):
        await shell(tmp_path, "echo no such port; exit 3").start()


async def test_program_that_is_never_ready_is_not_left_running(tmp_path: Path) -> None:
    process = shell(tmp_path, "echo still thinking; exec sleep 600", ready_within=0.3)
    with pytest.raises(ProcessError, match="still thinking"):
        await process.start()
    assert not process.is_running


async def test_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = Process(
        name="stubborn",
        argv=[
            sys.executable,
            "-c",
            "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()",
        ],
        log=tmp_path / "log",
        stop_within=0.3,
    )
    await process.start()
    process.ready = lambda: asyncio.sleep(0, bool(process.log_tail()))
    await process.wait_until_ready()
    assert await process.stop() == -signal.SIGKILL


async def test_paused_program_can_be_stopped(tmp_path: Path) -> None:
    process = Process(name="sleeper", argv=["sleep", "600"], log=tmp_path / "log")
    await process.start()
    process.pause()
    assert await process.stop() == -signal.SIGTERM


def test_child_dies_with_a_parent_killed_hard(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN_MAKER, tmp_path / "log"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        try:
            assert has_ended(child, seconds=5)
        finally:
            os.close(child)


def has_ended(pidfd: int, seconds: float) -> bool:
    """A pidfd becomes readable when its process ends."""
    readable, _, _ = select.select([pidfd], [], [], seconds)
    return bool(readable)


def test_ports_are_not_given_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)
    assert all(FIRST <= port <= LAST for port in ports)


async def test_nats_comes_back_on_its_port_after_kill(nats_server: NatsServer) -> None:
    before = nats_server.process.pid
    nats_server.process.kill()
    await nats_server.start()
    assert nats_server.process.pid != before
    _, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
    writer.close()
    await writer.wait_closed()
