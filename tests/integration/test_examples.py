"""The examples, run as they lie there, as the NATS user of other tools and by its permissions alone."""

import asyncio
import contextlib
import os
import re
import secrets
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy.dev.binaries import BuildError
from deploy.dev.go import GoMissingError
from deploy.dev.nats import NatsServer
from deploy.dev.natscli import nats_command
from shared.broker import BrokerSettings, open_broker
from shared.contracts import FlipCause, Reason, Result, VerdictFlipped
from shared.metrics import CommonMetrics
from shared.settings import Environment
from shared.subjects import flip_subject
from tests.support.builders import DIGEST, TAG
from tests.support.road import WatchedRoad

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
WITHIN = 60.0


@pytest.fixture(scope="session")
def command() -> Path:
    """The command `nats`; without Go skipped, but not in CI."""
    try:
        return nats_command()
    except (GoMissingError, BuildError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"the command nats cannot be built: {error}")


@pytest.fixture
async def durable(road: WatchedRoad, command: Path) -> None:
    """Made by the operator, by the very command of docs/nats.md."""
    text = (ROOT / "docs" / "nats.md").read_text(encoding="utf-8")
    found = re.search(r"consumer add MOORGATE_EVENTS integrator[^`]*", text)
    assert found
    typed = shlex.split(found[0].replace("\\\n", " "))
    access = shlex.split(road.nats.command_line("operator"))
    code, output = await run([str(command), "--server", road.nats.url, *access, *typed], {})
    assert code == 0, output


def environment(nats: NatsServer, *path: Path) -> dict[str, str]:
    folders = os.pathsep.join([*(str(each) for each in path), os.environ["PATH"]])
    return {**nats.settings("integrator"), "PATH": folders}


async def run(argv: list[str], variables: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    assert process.returncode is not None
    return process.returncode, output.decode()


@asynccontextmanager
async def running(argv: list[str], variables: dict[str, str]) -> AsyncIterator[asyncio.StreamReader]:
    """What a program that never ends prints, while the context is open."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout
    try:
        yield process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def line_with(word: str, output: asyncio.StreamReader) -> str:
    lines: list[str] = []
    async with asyncio.timeout(WITHIN):
        while not lines or word not in lines[-1]:
            line = (await output.readline()).decode()
            assert line, f"it has ended: {lines}"
            lines.append(line)
    return lines[-1]


async def tell_flip(road: WatchedRoad, namespace: str, result: Result) -> None:
    """As the audit-writer tells it."""
    now = datetime.now(UTC)
    flipped = VerdictFlipped(
        id=secrets.token_hex(16),
        flipped_at=now,
        tenant="default",
        image=TAG,
        digest=DIGEST,
        bundle_id="strict",
        revision=7,
        result=result,
        cause=FlipCause.FEED,
        namespace=namespace,
        release="web",
        new_reasons=(
            Reason(gate="vulnerabilities", trigger="package", action="stop", text="CVE-2026-0001 in openssl"),
        ),
    )
    settings = BrokerSettings.load(Environment(road.nats.settings("audit-writer")))
    async with open_broker(settings, "tests", CommonMetrics(CollectorRegistry())) as broker:
        await asyncio.wait_for(broker.connected(), WITHIN)
        await broker.publish(flip_subject(result), flipped, flipped.id)


@pytest.mark.usefixtures("durable")
async def test_the_python_subscriber_prints_what_degrades(road: WatchedRoad) -> None:
    namespace = f"shop-{secrets.token_hex(3)}"
    argv = [sys.executable, str(EXAMPLES / "degraded_releases.py")]
    async with running(argv, environment(road.nats)) as output:
        await tell_flip(road, namespace, Result.PASS)
        await tell_flip(road, namespace, Result.FAIL)
        line = await line_with(namespace, output)
    assert line == f"{namespace}/web: {TAG} fails (feed) CVE-2026-0001 in openssl\n"


@pytest.mark.usefixtures("durable")
async def test_the_shell_subscriber_prints_what_degrades(road: WatchedRoad, command: Path) -> None:
    namespace = f"shop-{secrets.token_hex(3)}"
    argv = ["sh", str(EXAMPLES / "degraded-releases.sh")]
    async with running(argv, environment(road.nats, command.parent)) as output:
        await tell_flip(road, namespace, Result.PASS)
        await tell_flip(road, namespace, Result.FAIL)
        line = await line_with(namespace, output)
    assert '"result":"fail"' in line


async def test_the_command_finds_the_service(road: WatchedRoad, command: Path) -> None:
    """`nats micro ls`, as docs/integration.md says, by the operator."""
    access = shlex.split(road.nats.command_line("operator"))
    nats = [str(command), "--server", road.nats.url, *access, "micro"]
    code, output = await run([*nats, "ls"], {})
    assert code == 0, output
    assert "moorgate-verdict" in output
    code, output = await run([*nats, "info", "moorgate-verdict"], {})
    assert code == 0, output
    assert "moorgate.v1.verdict.*" in output


MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers: [{name: web, image: "%s"}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
spec:
  jobTemplate: {spec: {template: {spec: {initContainers: [{name: init, image: "nginx:1.25"}], containers: []}}}}
"""


@pytest.mark.parametrize(
    ("image", "code", "shown"),
    [
        ("nginx:1.25", 0, "pass    nginx:1.25"),
        (
            "registry.example/bad/merged:1",
            1,
            "fail    registry.example/bad/merged:1  vulnerabilities/package",
        ),
        ("not an image", 2, "error   not an image  'not an image' is no image reference"),
    ],
)
async def test_the_gate_says_what_would_be_merged(
    road: WatchedRoad, tmp_path: Path, image: str, code: int, shown: str
) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(MANIFEST % image)
    argv = [sys.executable, str(EXAMPLES / "gitops_gate.py"), "--wait", "40", str(manifest)]
    ended, output = await run(argv, environment(road.nats))
    assert ended == code, output
    assert shown in output
    assert "pass    nginx:1.25" in output


async def test_the_gate_waits_for_a_slow_scan_and_says_when_it_has_no_verdict(
    road: WatchedRoad, tmp_path: Path
) -> None:
    image = "registry.example/slow/merged:1"
    await road.tell_anchore("analysis", reference=image, seconds=600)
    manifest = tmp_path / "slow.yaml"
    manifest.write_text(MANIFEST % image)
    argv = [sys.executable, str(EXAMPLES / "gitops_gate.py"), "--wait", "3", str(manifest)]
    ended, output = await run(argv, environment(road.nats))
    assert (ended, f"pending {image}  being scanned" in output) == (2, True), output


async def test_the_gate_says_what_is_wrong_in_one_line(road: WatchedRoad, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    gate = [sys.executable, str(EXAMPLES / "gitops_gate.py")]
    manifest = tmp_path / "web.yaml"
    manifest.write_text(MANIFEST % "nginx:1.25")
    access = environment(road.nats)
    for argv, variables in (
        ([*gate, str(broken)], access),
        ([*gate, str(tmp_path / "none.yaml")], access),
        ([*gate, str(manifest)], {**access, "MOORGATE_NATS_PASSWORD": "wrong"}),
        ([*gate, str(manifest)], {**access, "MOORGATE_NATS_URL": "nats://127.0.0.1:1"}),
    ):
        ended, output = await run(argv, variables)
        assert ended == 2
        assert output.startswith("gitops-gate: ")
        assert len(output.splitlines()) == 1, output


async def test_the_gate_names_a_tenant_that_its_user_may_not_ask_for(
    road: WatchedRoad, tmp_path: Path
) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(MANIFEST % "nginx:1.25")
    argv = [sys.executable, str(EXAMPLES / "gitops_gate.py"), "--tenant", "other", str(manifest)]
    ended, output = await run(argv, environment(road.nats))
    assert ended == 2
    assert "moorgate.v1.verdict.other" in output


async def test_what_the_docs_say_to_type_is_answered(road: WatchedRoad, command: Path) -> None:
    text = (ROOT / "docs" / "integration.md").read_text(encoding="utf-8")
    found = re.search(r"^nats (--inbox-prefix.*)$", text, re.MULTILINE)
    assert found
    settings = road.nats.settings("integrator")
    variables = {f"NATS_{name}": settings[f"MOORGATE_NATS_{name}"] for name in ("URL", "USER", "PASSWORD")}
    variables["NATS_CA"] = settings["MOORGATE_NATS_CA_FILE"]
    code, output = await run([str(command), *shlex.split(found[1])], variables)
    assert code == 0, output
    assert '"outcome":"pass"' in output


async def test_it_is_found_by_the_command_nats(road: WatchedRoad, command: Path) -> None:
    access = shlex.split(road.nats.command_line("operator"))
    code, output = await run([str(command), "--server", road.nats.url, *access, "micro", "ls"], {})
    assert code == 0, output
    assert "moorgate-verdict" in output
