"""Everything a bootstrap reaches, real but for Anchore: an API server, NATS, the simulator, and a folder for its file."""

import asyncio
import base64
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dev.kubectl import Kubectl
from services.cli.bootstrap.command import command
from tests.support.anchore import Simulator

SECRET = "moorgate-anchore"


@dataclass
class Outcome:
    """What one run came to."""

    code: int
    lines: list[str]
    error: str

    def of(self, verb: str) -> list[str]:
        return [line.removeprefix(verb).strip() for line in self.lines if line.startswith(verb)]

    @property
    def changes(self) -> list[str]:
        quiet = ("unchanged", "warning", "by hand", " ")
        return [line for line in self.lines if not line.startswith(quiet)]


@dataclass
class Site:
    simulator: Simulator
    kubectl: Kubectl
    folder: Path
    capture: pytest.CaptureFixture[str]
    name: str = field(default_factory=lambda: f"m-{secrets.token_hex(3)}")

    def settings(self, **sections: Any) -> None:
        """Write the file; a section None is left out."""
        (self.folder / "admin").write_text("foobar\n")
        (self.folder / "hook").write_text("a secret of the receiver\n")
        usual = {
            "anchore": {"url": self.simulator.url, "passwordFile": "admin"},
            "account": {"name": self.name, "email": "moorgate@example.org"},
            "user": {"name": self.name},
            "secret": {"namespace": self.kubectl.namespace, "name": SECRET},
            "bundles": {"active": "reject_critical"},
            "registries": [{"namespace": self.kubectl.namespace, "name": "pull"}],
            "notifications": {"url": "https://scanner.example:9443", "secretFile": "hook"},
            "waitFor": "5s",
        }
        content = {name: each for name, each in {**usual, **sections}.items() if each is not None}
        (self.folder / "bootstrap.yaml").write_text(yaml.safe_dump(content))

    async def run(self, **options: Any) -> Outcome:
        self.capture.readouterr()
        code = await asyncio.to_thread(command, **options)
        out, err = self.capture.readouterr()
        password = await self.password()
        assert not password or password not in out + err
        for each in ("foobar", "a secret of the receiver", "registry-password"):
            assert each not in out + err
        assert "Traceback" not in out + err
        return Outcome(code, out.splitlines(), err.strip())

    async def password(self) -> str:
        secret = await self.secret()
        return base64.b64decode(secret["data"]["password"]).decode() if secret else ""

    async def secret(self) -> dict[str, Any] | None:
        answer = await self.kubectl.run("get", "secret", SECRET, "-o", "json", "--ignore-not-found")
        return json.loads(answer.stdout) if answer.stdout else None

    async def pull_secret(self, auths: dict[str, dict[str, str]] | None = None) -> None:
        entries = auths or {
            "https://index.docker.io/v1/": {"auth": base64.b64encode(b"hub:registry-password").decode()},
            "registry.example:5000": {"username": "robot", "password": "registry-password"},
        }
        content = {".dockerconfigjson": json.dumps({"auths": entries})}
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "pull"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": content,
        }
        await self.kubectl.ok("apply", "-f", "-", stdin=manifest)

    def mutations(self) -> list[str]:
        """The changing calls that Anchore has seen since the last reset."""
        changing = {each.name for each in self.simulator.server._operations.all if each.method != "GET"}
        return [seen.operation for seen in self.simulator.counters.journal if seen.operation in changing]

    @property
    def space(self) -> Any:
        return self.simulator.engine.directory.space(self.name)

    @property
    def active(self) -> str | None:
        found = self.space.active_policy()
        return found.policy_id if found else None
