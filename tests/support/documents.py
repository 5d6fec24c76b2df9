"""The commands of a page, cut out of it and run as they stand: what a reader types is what is tested.

A fenced block of `sh` is a command; a block of `text` right after it is what the reader is shown. A comment above the
block, which no reader sees, says what is special: `exit: 1`, `repeat` (what it shows may take a moment), `whole` (nothing
else is shown). In what is shown `…` stands for anything, and spaces for any number of them.
"""

import asyncio
import os
import re
import signal
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PART = re.compile(
    r"^(?P<margin> *)(?:<!-- (?P<marks>[^\n]*) -->\n *)?```(?P<language>\w+)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
BETWEEN = 1.0
"""Seconds between two tries of a command that is repeated."""


@dataclass(frozen=True)
class Block:
    """One block of commands, and what comes of them."""

    text: str
    marks: frozenset[str] = frozenset()
    shown: str = ""

    @property
    def name(self) -> str:
        """Its first line."""
        return self.text.splitlines()[0]

    @property
    def code(self) -> int:
        """The exit code that it must have."""
        codes = [int(mark.removeprefix("exit: ")) for mark in self.marks if mark.startswith("exit: ")]
        return codes[0] if codes else 0

    def missing(self, output: str) -> list[str]:
        """The lines that the reader is shown and did not get, in their order; with `whole` also those that are too many."""
        lines = [line for line in output.splitlines() if line.strip()]
        wanted = self.shown.splitlines()
        if "whole" in self.marks and len(lines) != len(wanted):
            return [f"{len(wanted)} lines, not {len(lines)}"]
        found = []
        for line in wanted:
            pattern = re.compile(r"\s*".join(_pieces(line)))
            at = next((at for at, each in enumerate(lines) if pattern.match(each.strip())), None)
            if at is None:
                found.append(line)
            else:
                lines = lines[at + 1 :]
        return found


def _pieces(line: str) -> Iterator[str]:
    for word in line.split():
        yield ".*".join(re.escape(each) for each in word.split("…"))


def blocks(page: Path) -> list[Block]:
    """The blocks of commands in their order. Raises `ValueError` on marks or a shown text that belong to none."""
    found: list[Block] = []
    end = 0
    text = page.read_text(encoding="utf-8")
    for match in _PART.finditer(text):
        marks = frozenset(mark.strip() for mark in (match["marks"] or "").split(",") if mark.strip())
        inside = textwrap.dedent(match["text"]).strip()
        if match["language"] == "sh":
            found.append(Block(inside, marks))
            end = match.end()
        elif match["language"] == "text" and found and not text[end : match.start()].strip():
            found[-1] = Block(found[-1].text, found[-1].marks, inside)
        elif marks:
            raise ValueError(f"{page.name}: marks without commands: {match['marks']}")
    return found


@dataclass
class Reader:
    """Somebody at a terminal, who types what the page says, block after block."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    first: str = ""
    """What is typed once and holds on: each block is a shell of its own."""

    async def follow(self, block: Block, *, seconds: float = 200) -> str:
        """Type it; raises `AssertionError` where it ends otherwise, or does not show what the page shows."""
        end = time.monotonic() + seconds
        while True:
            code, output = await self._type(block.text, max(1.0, end - time.monotonic()))
            missing = block.missing(output)
            is_done = code == block.code and not missing
            if is_done:
                return output
            if "repeat" not in block.marks or time.monotonic() > end:
                raise AssertionError(
                    f"$ {block.text}\n{output}\nended with {code}, not {block.code}; not shown: {missing}"
                )
            await asyncio.sleep(BETWEEN)

    async def _type(self, text: str, seconds: float) -> tuple[int, str]:
        child = await asyncio.create_subprocess_exec(
            "bash", "-e", "-c", f"{self.first}\n{text}",
            cwd=self.folder, env=self.environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        typed = asyncio.create_task(child.communicate())
        try:
            output, _ = await asyncio.wait_for(asyncio.shield(typed), seconds)
        except (TimeoutError, asyncio.CancelledError) as error:
            os.killpg(child.pid, signal.SIGKILL)  # also what the shell has started
            output, _ = await typed
            if isinstance(error, asyncio.CancelledError):
                raise
            raise AssertionError(f"$ {text}\n{output.decode()}\nnot done after {seconds:.0f} s") from error
        return child.returncode or 0, output.decode()
