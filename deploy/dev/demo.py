"""`make demo`: Moorgate's main job end to end on this machine, told as a story with a real kubectl.

Everything is real but two parts, which say so: the kubelet and Anchore are stand-ins. Each chapter checks
what it shows: exit code 0 means that every step really came out so. All processes end with the demo.
"""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.text import Text

from deploy.dev import story
from deploy.dev.binaries import provide
from deploy.dev.browser import BrowserMissingError
from deploy.dev.kubectl import Kubectl
from deploy.dev.page import pictures, reader
from deploy.dev.processes import ProcessError
from deploy.dev.road import Road
from deploy.dev.stack import open_stack
from deploy.dev.story import Narrator, StoryError

PICTURE = Path("demo-page.png")
"""What is left of the page, in the folder the demo was begun in."""

INTRODUCTION = """\
A Kubernetes API server asks Moorgate about every Pod. Moorgate answers from verdicts in memory;
what it does not know its scanners ask of Anchore. Decisions become Audits, owned by the workloads.

Real here: etcd, API server, controllers, garbage collector, NATS, Moorgate, kubectl.
Stand-ins: the kubelet (no container is started) and Anchore (a simulator that evaluates real bundles)."""


class Terminal(Narrator):
    """The story as people like to read it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._chapter = 0

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        self._chapter += 1
        self._console.print()
        self._console.print(Rule(f"[bold]{self._chapter}. {title}", align="left", style="cyan"))

    def says(self, text: str) -> None:
        """A sentence of explanation."""
        self._console.print(Text(text, style="dim"))

    def command(self, line: str) -> None:
        """What is typed."""
        self._console.print(Text(f"$ {line}", style="bold"))

    def output(self, text: str) -> None:
        """What the command said."""
        for line in text.strip().splitlines():
            self._console.print(Text(f"  {line}"), soft_wrap=True)

    def manifest(self, text: str) -> None:
        """A manifest that is applied."""
        self._console.print(Syntax(text.strip(), "yaml", background_color="default", word_wrap=True))

    def holds(self, claim: str) -> None:
        """What was checked and is so."""
        self._console.print(Text(f"✓ {claim}", style="green"))

    async def step(self, name: str, work: Awaitable[Any]) -> Any:
        """A long step, with a sign of life and its time."""
        started = time.monotonic()
        with self._console.status(f"{name} …"):
            result = await work
        self._console.print(Text(f"  ✓ {name} ({time.monotonic() - started:.1f} s)", style="green"))
        return result


async def tell(console: Console, folder: Path) -> None:
    """Set up, tell, take down."""
    terminal = Terminal(console)
    console.print(Panel(INTRODUCTION, title="Moorgate", border_style="cyan"))
    await asyncio.to_thread(provide)
    async with open_stack(folder, terminal.step) as road:
        await story.tell(road, terminal)
        await show_page(road, terminal)
        console.print()


async def show_page(road: Road, terminal: Terminal) -> None:
    """Where the page is, and a picture of it for when it is gone."""
    terminal.chapter("The same on a web page")
    terminal.says(
        f"{road.services.page_url()} shows all this, live, for who may list Audits. To look around: make dev"
    )
    admin = Kubectl(road.plane, road.name)
    token = (await admin.ok(*reader.command(road.name).split()[1:])).strip()
    try:
        await terminal.step(
            f"A picture of it: {PICTURE}", pictures.snap(road.services.page_url(), token, PICTURE)
        )
    except BrowserMissingError as error:
        terminal.says(f"No picture of it: {error}.")


def main() -> int:
    """The exit code."""
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="moorgate-demo-"))
    started = time.monotonic()
    try:
        asyncio.run(tell(console, folder))
    except (StoryError, ProcessError, AssertionError) as error:
        console.print(Text(f"✗ {error}", style="bold red"))
        console.print(f"The logs of every part are in {folder}")
        return 1
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    console.print("The page ended with its processes; `make dev` leaves it running.")
    console.print(f"[green]Every step came out so.[/] {time.monotonic() - started:.0f} s in all.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
