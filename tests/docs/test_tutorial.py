"""docs/tutorial.md, followed to the letter on the stack that `make dev` starts; and what README.md shows of it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.documents import Block, Reader, blocks
from tests.support.kube import require_binaries
from tests.support.road import until

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
STARTED, ENTERED = "make dev", ". .cache/dev/env"
SLOW = "registry.example/slow/report:1.0"
REFUSED = "kubectl run bad --image=registry.example/bad/shop:1.0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the reader sits: like the project's folder, but with a `.cache/dev` of its own."""
    (tmp_path / ".cache").mkdir()
    return tmp_path


@pytest.fixture
def stack(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """What `make dev` starts, ended as by Ctrl-C."""
    require_binaries()
    assert re.search(
        r"^dev:.*\n\t@\$\(PYTHON\) -m deploy\.dev\.dev$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    with (folder / "dev.log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "deploy.dev.dev", "--shared", folder / ".cache" / "dev"],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            yield child
        finally:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                raise


async def test_the_tutorial_comes_out_as_it_says(folder: Path, stack: subprocess.Popen[str]) -> None:
    await is_running(folder, stack)
    await is_quick(folder, SLOW)
    assert (folder / ".cache" / "dev" / "env").stat().st_mode & 0o077 == 0, "it holds a password"
    start, enter, *rest = blocks(ROOT / "docs" / "tutorial.md")
    assert start.text == STARTED
    assert enter.name == ENTERED
    assert any(SLOW in block.text for block in rest)
    reader = Reader(folder, first=ENTERED, environment=dict(os.environ))
    for block in (enter, *rest):
        said = await reader.follow(block)
        if block.text == REFUSED:
            assert not readme().missing(said), said
    stack.send_signal(signal.SIGINT)
    assert stack.wait(60) == 0
    assert not list((folder / ".cache" / "dev").iterdir()), "what was written for other terminals is gone"


async def is_quick(folder: Path, image: str) -> None:
    """The reader has time, the test has not: the simulator is told to analyse this one in two seconds."""
    [url] = re.findall(r"^Anchore +(http://\S+)/v1", (folder / "dev.log").read_text(), re.MULTILINE)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/simulator/analysis", json={"reference": image, "seconds": 2}) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def is_running(folder: Path, stack: subprocess.Popen[str]) -> None:
    log = folder / "dev.log"

    async def is_said() -> bool:
        assert stack.poll() is None, log.read_text()
        return "Logs " in log.read_text()

    await until(is_said, "make dev says how to use it", 240)


def readme() -> Block:
    """The refusal that README.md shows."""
    [shown] = [block for block in blocks(ROOT / "README.md") if block.text == REFUSED]
    return shown
