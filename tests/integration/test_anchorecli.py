"""Anchore's own command line, 0.9.3 from PyPI, against the simulator: a client that nobody here wrote.

It wants packages years older than ours, so it gets a virtual environment of its own, made once and kept in the user's cache
under a name with the hash of what is in it. PyYAML is newer than it asks for: the one it names no longer builds.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.anchore import Simulator, anchore, bundle, rule

PINNED = (
    "anchorecli==0.9.3",
    "certifi==2024.7.4",
    "charset-normalizer==2.0.12",
    "click==8.0.1",
    "idna==3.7",
    "prettytable==2.2.0",
    "python-dateutil==2.8.2",
    "PyYAML==6.0.2",
    "requests==2.26.0",
    "setuptools==65.5.0",
    "six==1.16.0",
    "urllib3==1.26.6",
    "wcwidth==0.2.13",
)

NGINX = "docker.io/library/nginx:1.25"
SSHD = "registry.example/team/sshd:1.0"


class Said(NamedTuple):
    """What one run came to."""

    code: int
    text: str


class CommandLine:
    """anchore-cli as the admin of one simulator."""

    def __init__(self, program: Path, simulator: Simulator) -> None:
        self._program = program
        self._environment = {
            "ANCHORE_CLI_URL": f"{simulator.url}/v1",
            "ANCHORE_CLI_USER": "admin",
            "ANCHORE_CLI_PASS": "foobar",
            "LC_ALL": "C.UTF-8",
            "NO_PROXY": "127.0.0.1",
        }

    async def run(self, *arguments: str) -> Said:
        """Both output streams in one text."""
        process = await asyncio.create_subprocess_exec(
            self._program,
            *arguments,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        text, _ = await process.communicate()
        return Said(process.returncode or 0, text.decode())


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed command line; without PyPI the tests are skipped, but not in CI."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "moorgate" / "anchorecli"
    cache.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256("\n".join((sys.version, *PINNED)).encode()).hexdigest()[:12]
    home = cache / f"0.9.3-{content}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            _install(home)
    return home / "bin" / "anchore-cli"


def _install(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    pip = (
        home / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    )
    steps = [(sys.executable, "-m", "venv", home), (*pip, *PINNED[-4:]), (*pip, *PINNED[:-4])]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"anchorecli can't be installed: {done.stderr.strip()[-500:]}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
    (home / "complete").touch()


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with anchore(analysis_seconds=1) as running:
        yield running


@pytest.fixture
def cli(program: Path, simulator: Simulator) -> CommandLine:
    return CommandLine(program, simulator)


async def test_an_image_is_added_waited_for_and_judged(cli: CommandLine, simulator: Simulator) -> None:
    added = await cli.run("image", "add", SSHD)
    assert added.code == 0
    assert "Analysis Status: not_analyzed" in added.text
    early = await cli.run("evaluate", "check", SSHD)
    assert early.code == 1
    assert "image is not analyzed - analysis_status: analyzing" in early.text
    waited = await cli.run("image", "wait", "--interval", "0.2", SSHD)
    assert waited.code == 0
    assert "Analysis Status: analyzed" in waited.text
    got = await cli.run("image", "get", SSHD)
    assert got.code == 0
    assert f"Image Digest: {simulator.image(SSHD).digest}" in got.text
    judged = await cli.run("evaluate", "check", SSHD, "--detail")
    assert judged.code == 1
    assert "Status: fail" in judged.text
    assert "Dockerfile exposes port (22/tcp) which is in policy file DENIEDPORTS list" in judged.text


async def test_an_image_that_passes_is_code_0(cli: CommandLine, simulator: Simulator) -> None:
    simulator.preload(NGINX)
    judged = await cli.run("evaluate", "check", NGINX)
    assert judged.code == 0
    assert "Status: pass" in judged.text


async def test_unknown_images(cli: CommandLine, simulator: Simulator) -> None:
    simulator.preload(NGINX)
    assert "image data not found in DB" in (await cli.run("image", "get", SSHD)).text
    refused = await cli.run("image", "add", "registry.example/no/such:1")
    assert refused.code == 1
    assert "REGISTRY_IMAGE_NOT_FOUND" in refused.text


async def test_a_policy_is_added_activated_and_in_force(
    cli: CommandLine, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.preload(NGINX)
    path = tmp_path / "deny.json"
    path.write_text(json.dumps(bundle(rule("always", "always"), name="deny")))
    added = await cli.run("policy", "add", str(path))
    assert (added.code, "Policy ID: deny" in added.text) == (0, True)
    activated = await cli.run("policy", "activate", "deny")
    assert (activated.code, "Success: deny activated" in activated.text) == (0, True)
    listed = await cli.run("policy", "list")
    active = {line.split()[0]: line.split()[1] for line in listed.text.splitlines()[1:] if line.strip()}
    assert active == {"deny": "True", "2c53a13c-1765-11e8-82ef-23527761d060": "False"}
    judged = await cli.run("evaluate", "check", NGINX)
    assert judged.code == 1
    assert "Policy ID: deny" in judged.text


async def test_accounts_and_status(cli: CommandLine) -> None:
    assert (await cli.run("account", "add", "tenant-a")).code == 0
    assert (await cli.run("account", "user", "add", "--account", "tenant-a", "bob", "bobspass")).code == 0
    listed = await cli.run("account", "list")
    assert (listed.code, [line.split()[0] for line in listed.text.splitlines() if line]) == (
        0,
        ["Name", "admin", "tenant-a"],
    )
    status = await cli.run("system", "status")
    assert status.code == 0
    assert "Engine DB Version: 0.0.16" in status.text


async def test_a_wrong_password_is_refused(program: Path, simulator: Simulator) -> None:
    cli = CommandLine(program, simulator)
    refused = await cli.run("--p", "wrong", "image", "list")
    assert refused.code != 0
    assert "Unauthorized" in refused.text
