"""The image: what is in it, what is not, and each service running from it as a cluster would run it.

Containers are on this machine's own network, beside its NATS and its simulator of Anchore; what they talk to each
other is as everywhere.
"""

import json
import secrets
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.compose import credentials
from deploy.dev.anchore.settings import Settings
from deploy.dev.anchore.simulator import Simulator
from deploy.dev.docker import Docker
from deploy.dev.images import VERSION
from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import answers_ok
from deploy.dev.services import ROOT
from tests.support.docker import WITHIN, built_images
from tests.support.road import until

RESTRICTED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")
"""As the chart and compose run it, but for the network."""

ADDED = 150e6
"""Bytes at most above the base: everything in the image is there to be run."""

CODE = """
import hashlib, pathlib
def code(root):
    kinds = (".py", ".html", ".css", ".js", ".svg")
    found = [path for top in ("services", "shared") for path in (pathlib.Path(root) / top).rglob("*")]
    files = [path for path in found if path.suffix in kinds]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
"""
"""Digests of the source files below a folder: builders cache, and an image of yesterday's code looks like today's."""

LOOK = f"""{CODE}
import importlib.resources, importlib.util, json, os, shutil, sys
bundles = importlib.resources.files("services.cli.bundles").iterdir()
print(json.dumps({{
    "code": code(pathlib.Path(importlib.util.find_spec("services.gateway.app").origin).parents[2]),
    "uid": os.getuid(),
    "groups": os.getgroups(),
    "bundles": sorted(each.name for each in bundles if each.name.endswith(".json")),
    "programs": [name for name in ("cc", "gcc", "make", "uv", "git") if shutil.which(name)],
    "modules": [name for name in ("deploy", "tests", "pytest", "pip", "trustme") if importlib.util.find_spec(name)],
    "writable": [path for path in ("/", "/tmp", "/opt/moorgate", os.path.dirname(sys.executable)) if os.access(path, os.W_OK)],
    "compiled": os.path.exists(importlib.util.cache_from_source(importlib.util.find_spec("services.gateway.app").origin)),
}}))
"""


@dataclass(kw_only=True)
class Containers:
    """Services run from the image, and what they are told."""

    docker: Docker
    image: str
    folder: Path
    nats: NatsServer
    anchore_url: str
    secret: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    """The plain port of each, and the gateway's own as `webhook`."""
    names: dict[str, str] = field(default_factory=dict)
    """Of the containers, by service."""

    def start(self, service: str) -> None:
        port = self.ports[service] = free_port()
        name = self.names[service] = f"moorgate-test-{secrets.token_hex(4)}"
        settings = self._settings() | {"MOORGATE_METRICS_LISTEN": f"127.0.0.1:{port}"}
        if service == "gateway":
            self.ports["webhook"] = free_port()
            settings |= {"MOORGATE_LISTEN": f"127.0.0.1:{self.ports['webhook']}"}
        self.docker.run(
            *("run", "--detach", "--name", name, *RESTRICTED, "--volume", f"{self.folder}:/credentials:ro"),
            *(f"--env={key}={value}" for key, value in settings.items()),
            *(self.image, service),
        )

    def finish(self, *command: str) -> str:
        """Run a command to its end."""
        settings = (f"--env={key}={value}" for key, value in self._settings().items())
        return self.docker.run("run", "--rm", *RESTRICTED, *settings, self.image, *command)

    async def is_ready(self, service: str) -> bool:
        return await answers_ok(f"http://127.0.0.1:{self.ports[service]}/readyz")()

    def logs(self, service: str) -> str:
        return self.docker.run("logs", self.names[service])

    def stop(self, service: str) -> int:
        """As Kubernetes does it; the exit code."""
        self.docker.run("stop", "--time", "40", self.names[service])
        return int(self.docker.run("inspect", "--format", "{{.State.ExitCode}}", self.names[service]))

    def remove(self) -> None:
        for name in self.names.values():
            self.docker.run("rm", "--force", "--volumes", name)

    def _settings(self) -> dict[str, str]:
        return {
            "MOORGATE_CLUSTER": "none",
            "MOORGATE_NATS_URL": self.nats.url,
            "MOORGATE_ANCHORE_URL": self.anchore_url,
            "MOORGATE_ANCHORE_USERNAME": "admin",
            "MOORGATE_ANCHORE_PASSWORD": "foobar",
            "MOORGATE_TLS_CERT_FILE": "/credentials/tls.crt",
            "MOORGATE_TLS_KEY_FILE": "/credentials/tls.key",
            "MOORGATE_PATH_SECRET": self.secret,
        }

    async def post(self, example: str) -> dict[str, Any] | None:
        """The response; None while nothing listens."""
        body = (ROOT / "deploy" / "compose" / "examples" / f"{example}.json").read_bytes()
        tls = ssl.create_default_context(cafile=self.folder / "ca.crt")
        url = f"https://127.0.0.1:{self.ports['webhook']}/imagecheck/{self.secret}"
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, data=body, headers=headers, ssl=tls) as answer,
            ):
                return dict((await answer.json())["response"])
        except aiohttp.ClientError:
            return None


@asynccontextmanager
async def neighbours(folder: Path, docker: Docker, image: str) -> AsyncIterator[Containers]:
    """NATS and Anchore on this machine, and a certificate."""
    made = credentials.with_leaves(credentials.make(datetime.now(UTC)), datetime.now(UTC))
    shared = folder / "credentials"
    shared.mkdir(mode=0o755)
    for name, text in credentials.files(made)["gateway"].items():
        (shared / name).write_text(text)
    async with (
        NatsServer(folder=folder / "nats") as nats,
        Simulator(Settings(apis=("v1",))) as simulator,
    ):
        containers = Containers(
            docker=docker,
            image=image,
            folder=shared,
            nats=nats,
            anchore_url=simulator.url,
            secret=made.path_secret,
        )
        with removed(containers):
            yield containers


@contextmanager
def removed(containers: Containers) -> Iterator[None]:
    try:
        yield
    finally:
        containers.remove()


@pytest.mark.long
@pytest.mark.timeout(WITHIN)
async def test_the_image_holds_and_runs_the_services(tmp_path: Path) -> None:
    async with built_images(tmp_path) as built:
        docker, image = built.docker, built.names["product"]
        holds_what_it_needs_and_no_more(docker, image, built.base)
        async with neighbours(tmp_path, docker, image) as containers:
            await serves_admissions(containers)


def holds_what_it_needs_and_no_more(docker: Docker, image: str, base: str) -> None:
    assert "audit-writer" in docker.run("run", "--rm", *RESTRICTED, image, "--help")
    seen = json.loads(docker.run("run", "--rm", *RESTRICTED, "--entrypoint", "python", image, "-c", LOOK))
    bundles = sorted(path.name for path in (ROOT / "services" / "cli" / "bundles").glob("*.json"))
    assert seen.pop("code") == code_of_this_tree()
    assert seen == {
        "uid": 65532,
        "groups": [65532],
        "bundles": bundles,
        "programs": [],
        "modules": [],
        "writable": [],
        "compiled": True,
    }
    described = json.loads(docker.run("image", "inspect", image))[0]
    assert described["Config"]["User"] == "65532:65532"
    assert described["Config"]["StopSignal"] == "SIGTERM"
    assert described["Config"]["Entrypoint"] == ["moorgate"]
    assert described["Config"]["Labels"]["org.opencontainers.image.version"] == VERSION
    of_base = json.loads(docker.run("image", "inspect", base))[0]
    assert described["Size"] - of_base["Size"] < ADDED
    assert "BEGIN CERTIFICATE" not in docker.run("history", "--no-trunc", image)


def code_of_this_tree() -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{CODE}\nimport json, sys\nprint(json.dumps(code(sys.argv[1])))", ROOT],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


async def serves_admissions(containers: Containers) -> None:
    assert "MOORGATE_SCANS" in containers.finish("streams", "apply")
    services = ("scanner", "audit-writer", "gateway")
    for service in services:
        containers.start(service)
    for service in services:
        await until(partial(containers.is_ready, service), f"{service} is ready", 120)

    async def answered(example: str, code: int | None) -> dict[str, Any] | None:
        response = await containers.post(example)
        return response if response and response.get("status", {}).get("code") == code else None

    assert (await until(lambda: answered("allowed", None), "the good image is allowed", 120))["allowed"]
    refused = await until(lambda: answered("refused", 403), "the bad image is refused", 60)
    assert "registry.example/bad/shop:1.0" in refused["status"]["message"]

    async def recorded() -> bool:
        return '"reject"' in containers.logs("audit-writer")

    await until(recorded, "the refusal is on record", 60)
    assert {service: containers.stop(service) for service in services} == dict.fromkeys(services, 0)
