"""docker-compose.yml as a newcomer uses it: valid for every profile, up from nothing, and gone again.

Its images are built here; those of others (Anchore Engine, Prometheus, Grafana) can't be pulled where tests run, so of
their profiles the configuration alone is checked.
"""

import json
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml
from cryptography import x509

from deploy.compose import credentials
from deploy.dev.docker import Docker, DockerError, DockerMissingError, find_compose
from deploy.dev.images import VERSION
from deploy.dev.images_nats import build_nats
from deploy.dev.ports import free_port
from deploy.dev.services import ROOT
from tests.support.docker import WITHIN, built_images
from tests.support.road import until

FILE = ROOT / "docker-compose.yml"
COMPOSE = ROOT / "deploy" / "compose"
PROFILES = ("engine", "dashboards")
NOW = datetime(2026, 11, 23, tzinfo=UTC)

ROOTED = {"engine-db"}
"""Begins as root, and says why in the file."""
RUNNING = ("nats", "gateway", "scanner", "audit-writer", "simulator")
"""Of the default profile; the others do their work and end."""
WRITES = ("engine-",)
"""Other people's images that write where they please."""


def compose() -> tuple[str, ...]:
    try:
        return find_compose()
    except DockerMissingError as error:
        pytest.skip(f"NO COMPOSE FILE IS CHECKED HERE: {error}")


def configuration(*arguments: str, docker: Docker | None = None) -> dict[str, Any]:
    """The file as compose understands it."""
    said = (docker or Docker(program="docker")).command(*compose(), "-f", str(FILE), *arguments, "config")
    return dict(yaml.safe_load(said))


@pytest.mark.parametrize("profiles", [(), ("engine",), ("dashboards",), PROFILES], ids=" ".join)
def test_is_valid_for_every_profile(profiles: tuple[str, ...]) -> None:
    services = configuration(*(f"--profile={each}" for each in profiles))["services"]
    # docker-compose 1 shows what is switched off as well.
    services = {
        name: each for name, each in services.items() if set(each.get("profiles", profiles)) <= set(profiles)
    }
    assert {"credentials", "nats", "bootstrap", "gateway", "scanner", "audit-writer", "simulator"} <= set(
        services
    )
    assert ("engine-api" in services) == ("engine" in profiles)
    assert ("grafana" in services) == ("dashboards" in profiles)


def test_everything_it_mounts_and_builds_is_in_the_tree() -> None:
    file = yaml.safe_load(FILE.read_text())
    for name, service in file["services"].items():
        for volume in service.get("volumes", []):
            source = volume.replace("${KUBECONFIG_FILE:-", "").split(":")[0].rstrip("}")
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name} mounts {source}"
    assert (ROOT / file["x-build"]["dockerfile"]).is_file()


def test_the_version_is_the_projects() -> None:
    assert FILE.read_text().count(f"MOORGATE_VERSION:-{VERSION}") == FILE.read_text().count(
        "MOORGATE_VERSION:-"
    )


def test_nothing_has_more_rights_than_it_needs() -> None:
    for name, service in configuration(*(f"--profile={each}" for each in PROFILES))["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert not service.get("privileged"), name
        assert service.get("read_only") or name.startswith(WRITES), name
        assert not service.get("cap_add") or name in ROOTED, name
        for port in service.get("ports", []):
            assert "127.0.0.1" in str(port), f"{name} is open to the network"


def test_a_cluster_is_a_matter_of_an_environment_file() -> None:
    services = configuration("--env-file", str(COMPOSE / "cluster.env"))["services"]
    for name in ("gateway", "audit-writer"):
        environment = services[name]["environment"]
        assert environment["MOORGATE_CLUSTER"] == "auto"
        assert not environment["MOORGATE_POLICIES_FILE"]
        assert any(".kube/config" in str(volume) for volume in services[name]["volumes"])


def test_credentials_are_made_once_and_each_part_sees_its_own(tmp_path: Path) -> None:
    for folder in ("credentials", *credentials.files(credentials.with_leaves(credentials.make(NOW), NOW))):
        (tmp_path / folder).mkdir()
    credentials.write(tmp_path, NOW)
    first = contents(tmp_path)
    (tmp_path / "scanner" / "nats-password").unlink()  # a run that died
    credentials.write(tmp_path, NOW + timedelta(days=300))
    assert contents(tmp_path) == first

    made = msgspec.json.decode(first["credentials/credentials.json"], type=credentials.Credentials)
    assert len({*made.nats.values(), made.anchore, made.database, made.path_secret}) == len(made.nats) + 3
    for user in ("gateway", "scanner", "audit-writer"):
        assert first[f"{user}/nats-password"] == made.nats[user]
        others = "".join(text for name, text in first.items() if name.startswith(f"{user}/"))
        assert not any(password in others for name, password in made.nats.items() if name != user)


def test_certificates_are_renewed_when_they_are_due() -> None:
    first = credentials.with_leaves(credentials.make(NOW), NOW)
    later = credentials.with_leaves(first, NOW + timedelta(days=365 * 2 + 20))
    assert later.authority == first.authority
    for server, hosts in credentials.HOSTS.items():
        before, after = (
            x509.load_pem_x509_certificate(each.leaves[server].certificate.encode())
            for each in (first, later)
        )
        assert after.not_valid_after_utc > before.not_valid_after_utc
        names = after.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert {str(name.value) for name in names} == set(hosts)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@dataclass(kw_only=True)
class Stack:
    """The default profile under a project name of its own."""

    docker: Docker
    nats_image: str
    project: str = field(default_factory=lambda: f"moorgate-test-{secrets.token_hex(3)}")
    port: int = field(default_factory=free_port)

    def run(self, *words: str) -> str:
        environment = {**self.docker.environment, "NATS_IMAGE": self.nats_image}
        environment |= {"MOORGATE_ADDRESS": f"127.0.0.1:{self.port}"}
        docker = Docker(program=self.docker.program, environment=environment)
        return docker.command(*compose(), "-f", str(FILE), "-p", self.project, *words)

    def left(self) -> list[str]:
        """Containers, volumes and networks of the project."""
        label = f"label=com.docker.compose.project={self.project}"
        found = [self.docker.run("ps", "--all", "--quiet", "--filter", label)]
        found += [self.docker.run(kind, "ls", "--quiet", "--filter", label) for kind in ("volume", "network")]
        return " ".join(found).split()

    async def are_healthy(self) -> bool:
        """Whether all that goes on running says so."""
        name = ("ps", "--quiet", "--filter", f"name={self.project}")
        healthy = self.docker.run(*name, "--filter", "health=healthy").split()
        return len(healthy) == len(self.docker.run(*name).split()) == len(RUNNING)

    async def post(self, example: str) -> dict[str, Any]:
        """Post an example of the documentation as it says there; the response."""
        authority = self.run("exec", "-T", "gateway", "cat", "/credentials/ca.crt")
        secret = self.run("exec", "-T", "gateway", "cat", "/credentials/path-secret").strip()
        url = f"https://localhost:{self.port}/imagecheck/{secret}"
        body = (COMPOSE / "examples" / f"{example}.json").read_bytes()
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json"},
                ssl=ssl.create_default_context(cadata=authority),
            ) as answer,
        ):
            assert answer.status == 200
            return dict((await answer.json())["response"])


@contextmanager
def running(stack: Stack) -> Iterator[None]:
    """Up, and down with everything it made; what it said is quoted when it does not come up."""
    try:
        try:
            stack.run("up", "-d")
        except DockerError as error:
            raise AssertionError(f"{error}\n{stack.run('logs', '--tail', '30')}") from error
        yield
    finally:
        stack.run("down", "-v", "-t", "20")


@pytest.mark.long
@pytest.mark.timeout(WITHIN)
async def test_answers_from_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    async with built_images(tmp_path) as built:
        stack = Stack(docker=built.docker, nats_image=build_nats(built.docker, built.base))
        with running(stack):

            async def answered(example: str, code: int | None) -> dict[str, Any] | None:
                try:
                    response = await stack.post(example)
                except (aiohttp.ClientError, DockerError):  # not yet listening
                    return None
                return response if response.get("status", {}).get("code") == code else None

            allowed = await until(lambda: answered("allowed", None), "the good image is allowed", 120)
            assert allowed["allowed"]
            refused = await until(lambda: answered("refused", 403), "the bad image is refused", 60)
            assert not refused["allowed"]
            assert "CVE-2026-90030" in refused["status"]["message"]
            warned = await stack.post("warned")
            assert warned["allowed"]
            assert warned["warnings"]

            async def recorded() -> bool:
                # The first answers may say that no verdict is to be had yet: the last line of each counts.
                lines = stack.run("logs", "--no-color", "audit-writer").splitlines()
                audits = [json.loads(line[line.index("{") :]) for line in lines if '"kind":"Audit"' in line]
                actions = {each["metadata"]["name"]: each["spec"]["action"] for each in audits}
                return actions == {"pod-web": "allowed", "pod-shop": "reject", "pod-try": "allowed"}

            await until(recorded, "the Audits are printed", 60)
            await until(stack.are_healthy, "all containers are healthy", 120)
        assert stack.left() == []
