"""The Anchore simulator as a process of its own, so that its work is not the scanner's."""

import sys
from collections.abc import Iterable
from pathlib import Path

import aiohttp

from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.services import ROOT

BUNDLE = "2c53a13c-1765-11e8-82ef-23527761d060"
"""Active in a fresh simulator."""


class AnchoreProcess(Process):
    """The simulator on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        super().__init__(
            name="anchore",
            argv=[
                sys.executable,
                *("-m", "deploy.dev.anchore"),
                f"--port={self.url.rpartition(':')[2]}",
                "--image-watcher-seconds=0",
                "--notification-seconds=0",
            ],
            log=folder / "anchore.log",
            ready=answers_ok(f"{self.url}/simulator"),
            cwd=ROOT,
        )

    async def preload(self, images: Iterable[str]) -> None:
        """Have them analysed already."""
        async with aiohttp.ClientSession() as session:
            for image in images:
                await _tell(session, f"{self.url}/simulator/preload", reference=image)

    async def slow_down(self, seconds: float) -> None:
        """Every call takes so long."""
        async with aiohttp.ClientSession() as session:
            await _tell(session, f"{self.url}/simulator/latency", seconds=seconds)

    async def be_limited(self) -> None:
        """Checks by the curve `even`: a limit that no number of scanners gets beyond."""
        async with aiohttp.ClientSession() as session:
            await _tell(session, f"{self.url}/simulator/latency", operation="check", curve="even")


async def _tell(session: aiohttp.ClientSession, url: str, **body: object) -> None:
    async with session.post(url, json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(await answer.text())
