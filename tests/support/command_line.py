"""The command line as a person types it: `python -m services.cli …` as a process, with what it printed and its exit code."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.dev.services import ROOT


@dataclass(frozen=True)
class Answer:
    """What the command said."""

    code: int
    stdout: str
    stderr: str

    @property
    def trouble(self) -> str:
        """The one line on stderr."""
        [line] = self.stderr.splitlines()
        return line

    def json(self) -> Any:
        """What it printed for programs."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class CommandLine:
    """`moorgate` with an environment of its own; nothing of the machine's kubeconfig or settings comes through."""

    environment: Mapping[str, str] = field(default_factory=dict)

    def given(self, **environment: str) -> "CommandLine":
        """The same with other settings."""
        return CommandLine({**self.environment, **environment})

    async def __call__(self, *arguments: str) -> Answer:
        """Run it to its end."""
        async with self.started(*arguments) as child:
            out, err = await child.communicate()
        answer = Answer(child.returncode or 0, out.decode(), err.decode())
        assert "Traceback" not in answer.stdout + answer.stderr
        return answer

    async def ok(self, *arguments: str) -> Answer:
        """Run it; it must have worked."""
        answer = await self(*arguments)
        assert answer.code == 0, answer
        return answer

    async def refuses(self, *cases: tuple[int, str, tuple[str, ...]]) -> None:
        """Each case: the exit code, a part of the one line on stderr, and what was typed. All at once, a few at a time."""
        limit = asyncio.Semaphore(3)

        async def refused(code: int, said: str, arguments: tuple[str, ...]) -> None:
            async with limit:
                answer = await self(*arguments)
            assert (answer.code, answer.stdout) == (code, ""), (arguments, answer)
            assert said in answer.trouble, (arguments, answer)

        await asyncio.gather(*(refused(*case) for case in cases))

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The process; killed at the end, should it still run."""
        kept = {
            name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")
        }
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.cli",
            *arguments,
            cwd=ROOT,
            env={**kept, **self.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield child
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
