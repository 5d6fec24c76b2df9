"""Programs of the embedded stack as child processes.

Each has its own log file and its own process group (so that Ctrl-C reaches only us, and we stop them in
order), is tethered to our life (see tether.py), and is stopped by the process id recorded at its start,
never by name. A process belongs to no event loop: a session fixture may start it and any test may
kill, pause or restart it. Start processes from a thread that lives as long as they should: the tether
is to the thread.
"""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

POLL_INTERVAL = 0.05
"""Seconds between two looks at a starting program; a look costs about a millisecond."""

LOG_TAIL = 30
"""Lines of its log quoted when a program doesn't start."""

Probe = Callable[[], Awaitable[bool]]


class ProcessError(RuntimeError):
    """A program ended too early or was not ready in time; the text quotes the end of its log."""


def tethered(argv: Sequence[str | Path]) -> list[str | Path]:
    """The command line under which a program dies with this process, even under kill -9."""
    tether = Path(__file__).with_name("tether.py")
    return [sys.executable, "-I", "-S", tether, str(os.getpid()), *argv]


async def _at_once() -> bool:
    return True


@dataclass(kw_only=True)
class Process:
    """One program: start, stop, kill, pause, restart; the same command line each time."""

    name: str
    argv: Sequence[str | Path]
    log: Path
    """Appended to, so that a restart keeps what the first run said."""
    ready: Probe = _at_once
    ready_within: float = 30.0
    stop_within: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    env: Mapping[str, str] | None = None
    """Added to our own environment."""
    cwd: Path | None = None
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """The process id of the running program."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the program has been started and hasn't ended."""
        return self._child is not None and self._child.poll() is None

    async def start(self) -> None:
        """Start the program and wait until it is ready; raises ProcessError, leaving nothing behind."""
        self.launch()
        try:
            await self.wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def launch(self) -> None:
        """Start the program and wait for nothing."""
        if self.is_running:
            raise ProcessError(f"{self.name} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                tethered(self.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(self.env or {})},
                cwd=self.cwd,
                start_new_session=True,
            )

    async def wait_until_ready(self) -> None:
        """The one place that polls: until the probe says yes, the program ends, or the time is up."""
        deadline = time.monotonic() + self.ready_within
        while True:
            if not self.is_running:
                raise ProcessError(f"{self.name} ended before it was ready\n{self.log_tail()}")
            if await self.ready():
                return
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} was not ready within {self.ready_within:g} s\n{self.log_tail()}"
                )
            await asyncio.sleep(POLL_INTERVAL)

    async def wait(self) -> int:
        """Wait for a program that ends by itself; its exit code."""
        return await asyncio.to_thread(self._running_or_ended().wait)

    async def stop(self) -> int | None:
        """SIGTERM, then SIGKILL after `stop_within`; the exit code, None if it was never started."""
        if self._child is None:
            return None
        if self.is_running:
            self._child.send_signal(signal.SIGCONT)  # a paused program never sees SIGTERM
            self._child.terminate()
            try:
                await asyncio.to_thread(self._child.wait, self.stop_within)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._child.wait()

    def kill(self) -> None:
        """SIGKILL to the program and whatever it started; returns when it is gone."""
        child = self._child
        if child is None or child.poll() is not None:
            return
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    async def restart(self) -> None:
        """Stop the program if it runs and start it again: same command line, ports and data."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """SIGSTOP: the program keeps its sockets and does nothing, as on a hung machine. All its threads stand when this returns."""
        program = self._running()
        program.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT; harmless when it isn't paused."""
        self._running().send_signal(signal.SIGCONT)

    def log_tail(self, lines: int = LOG_TAIL) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            raise ProcessError(f"{self.name} doesn't run")
        return self._child

    def _running_or_ended(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise ProcessError(f"{self.name} was never started")
        return self._child

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def answers_ok(url: str, tls: ssl.SSLContext | None = None) -> Probe:
    """A probe: a GET of the URL is answered with 200."""

    async def probe() -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(url, ssl=tls or True) as answer,
            ):
                return answer.status == 200  # noqa: PLR2004 - HTTP's own number
        except (aiohttp.ClientError, TimeoutError):  # not listening yet, or not answering yet
            return False

    return probe
