"""kubectl as the demo and the tests use it: the real client, as one user in one namespace.

What a person types is what runs here; exit codes and texts are the ones people see.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

from deploy.dev.controlplane import ControlPlane
from deploy.dev.programs import installed


@dataclass(frozen=True)
class Answer:
    """What kubectl said."""

    code: int
    stdout: str
    stderr: str


class KubectlError(AssertionError):
    """kubectl failed where it had to work."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl as one user in one namespace."""

    plane: ControlPlane
    namespace: str = "default"
    user: str = "admin"

    def as_user(self, user: str) -> "Kubectl":
        """The same namespace, somebody else."""
        return replace(self, user=user)

    async def apply_text(self, manifest: str) -> str:
        """Apply a manifest as it stands in a file; raises KubectlError when kubectl failed."""
        return await self.ok("apply", "-f", "-", stdin=manifest)

    async def run(self, *arguments: str, stdin: object = None) -> Answer:
        """Run kubectl to its end; `stdin` is a manifest: text as it is, anything else as JSON."""
        child = await asyncio.create_subprocess_exec(
            installed("kubectl"),
            f"--kubeconfig={self.plane.kubeconfig(self.user)}",
            f"--cache-dir={self.plane.folder / 'kubectl-cache'}",  # the user's knows other clusters on this port
            f"--namespace={self.namespace}",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        given = b"" if stdin is None else (stdin if isinstance(stdin, str) else json.dumps(stdin)).encode()
        try:
            out, err = await child.communicate(given)
        except asyncio.CancelledError:  # the caller's time is up
            child.kill()
            await child.wait()
            raise
        return Answer(child.returncode or 0, out.decode(), err.decode())

    async def ok(self, *arguments: str, stdin: object = None) -> str:
        """The standard output; raises KubectlError when kubectl failed."""
        answer = await self.run(*arguments, stdin=stdin)
        if answer.code != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {answer.stderr}{answer.stdout}")
        return answer.stdout

    async def create(self, *manifests: dict[str, Any]) -> None:
        """Create objects; the namespace is filled in by kubectl."""
        for manifest in manifests:
            await self.ok("create", "-f", "-", stdin=manifest)

    async def get(self, *arguments: str) -> Any:
        """An object, or the items of a list."""
        found = json.loads(await self.ok("get", "-o", "json", *arguments))
        return found["items"] if found["kind"] == "List" else found

    async def wait(self, condition: str, *targets: str, seconds: int = 15) -> None:
        """Wait for `condition=Ready`, `delete`, `jsonpath=…`; by a watch, not by asking again and again."""
        await self.ok("wait", f"--for={condition}", f"--timeout={seconds}s", *targets)
