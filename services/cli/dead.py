"""`moorgate dead`: the messages that no repetition helped, for a person to look at, try again or drop.

`retry` and `drop` say for each letter what came of it, and go on after one that cannot be helped. Exit codes: 0 all
went well, 1 something did not (the line says what), 2 a setting is at fault. Texts of messages are strangers' texts:
a table shows them printable and cut.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Literal

import cyclopts
import msgspec
from prometheus_client import CollectorRegistry

from services.cli.dead_letters import DeadLetters, NoRetry, Stored, about
from shared import lifecycle, logs
from shared.broker import BrokerSettings, open_broker, shown_url
from shared.errors import BadSetting, MoorgateError
from shared.logs import LogFormat, LogLevel
from shared.metrics import CommonMetrics
from shared.settings import Environment

CONNECT_TIMEOUT = 10.0
"""Seconds a command waits for NATS before it says that it is not there."""

WIDTHS = {"reason": 60, "about": 90}
"""Characters of a table's column; JSON has them whole."""

Output = Literal["text", "json"]
All = Annotated[bool, cyclopts.Parameter(name="--all", negative=())]
Work = Callable[[DeadLetters], Awaitable[int]]

app = cyclopts.App(name="dead", help="Dead letters: messages that no repetition helped.")


class _Row(msgspec.Struct, kw_only=True, rename="camel"):
    """A letter as it is shown."""

    sequence: int
    when: str = ""
    what: str = ""
    deliveries: int = 0
    reason: str = "the letter cannot be read"
    about: str = ""
    subject: str = ""
    payload: bytes = b""


@app.command(name="list")
def list_letters(
    *,
    what: str | None = None,
    output: Annotated[Output, cyclopts.Parameter(name=["--output", "-o"])] = "text",
) -> int:
    """Show the letters, the oldest first.

    Parameters
    ----------
    what
        Only those of this kind: scan, decision, notification.
    output
        A table, or JSON with the messages themselves (Base64).
    """

    async def show(letters: DeadLetters) -> int:
        rows = [_row(each) async for each in letters.all(_kind(what))]
        _print(msgspec.json.encode(rows).decode() if output == "json" else _table(rows))
        return lifecycle.EXIT_OK

    return _run(show)


@app.command
def retry(*sequences: int, every: All = False, what: str | None = None) -> int:
    """Publish the messages again, and take their letters out.

    Parameters
    ----------
    sequences
        Numbers of letters, as `moorgate dead list` shows them.
    every
        All letters.
    what
        With --all: only those of this kind.
    """

    async def again(letters: DeadLetters, stored: Stored) -> str:
        return await letters.retry(stored)

    return _for_each(sequences, again, every=every, what=what)


@app.command
def drop(*sequences: int, every: All = False, what: str | None = None) -> int:
    """Take letters out for good.

    Parameters
    ----------
    sequences
        Numbers of letters, as `moorgate dead list` shows them.
    every
        All letters.
    what
        With --all: only those of this kind.
    """

    async def away(letters: DeadLetters, stored: Stored) -> str:
        await letters.drop(stored.number)
        return "dropped"

    return _for_each(sequences, away, every=every, what=what)


def _for_each(
    sequences: tuple[int, ...],
    do: Callable[[DeadLetters, Stored], Awaitable[str]],
    *,
    every: bool,
    what: str | None,
) -> int:
    if bool(sequences) == every or (what and not every):
        return _failed("say which letters: their numbers, or --all, and then --what if you like")

    async def work(letters: DeadLetters) -> int:
        code = lifecycle.EXIT_OK
        async for number, stored in _chosen(letters, sequences, what):
            if stored is None:
                code = _failed(f"there is no dead letter {number}; see: moorgate dead list")
                continue
            try:
                _print(f"{number}: {await do(letters, stored)}")
            except NoRetry as error:
                code = _failed(f"{number}: {error}")
        return code

    return _run(work)


async def _chosen(
    letters: DeadLetters, sequences: tuple[int, ...], what: str | None
) -> AsyncIterator[tuple[int, Stored | None]]:
    """The letters asked for. All of them means those that are there now: one that dies again waits for the next time."""
    if sequences:
        for number in dict.fromkeys(sequences):
            yield number, await letters.get(number) if number > 0 else None
        return
    for stored in [each async for each in letters.all(_kind(what))]:
        yield stored.number, stored


def _run(work: Work) -> int:
    """Connect, work, and one line for whatever ends it."""
    try:
        settings = BrokerSettings.load(Environment(os.environ))
    except BadSetting as error:
        return lifecycle.explain(error)
    logs.set_up(LogLevel.ERROR, LogFormat.CONSOLE)
    try:
        return asyncio.run(_connected(settings, work))
    except TimeoutError:
        return _failed(
            f"NATS does not answer at {shown_url(settings.url)}: start it, or correct MOORGATE_NATS_URL"
        )
    except MoorgateError as error:
        return _failed(str(error))


async def _connected(settings: BrokerSettings, work: Work) -> int:
    async with open_broker(settings, "moorgate/cli", CommonMetrics(CollectorRegistry())) as broker:
        await asyncio.wait_for(broker.connected(), CONNECT_TIMEOUT)
        return await work(DeadLetters(broker))


def _kind(what: str | None) -> str | None:
    """A kind is one part of a subject. Raises `MoorgateError`."""
    if what is not None and not what.isalnum():
        raise MoorgateError(f"--what is {what!r}: it must be a kind such as scan, decision or notification")
    return what


def _row(stored: Stored) -> _Row:
    letter = stored.letter
    if letter is None:
        return _Row(sequence=stored.number, what=stored.what)
    return _Row(
        sequence=stored.number,
        when=letter.died_at.isoformat(timespec="seconds"),
        what=letter.what,
        deliveries=letter.deliveries,
        reason=letter.reason,
        about=about(letter),
        subject=letter.subject,
        payload=letter.payload,
    )


def _table(rows: list[_Row]) -> str:
    if not rows:
        return "no dead letters"
    names = ("sequence", "when", "what", "deliveries", "reason", "about")
    shown = [[_shown(name, getattr(row, name)) for name in names] for row in rows]
    lines = [[name.upper() for name in names], *shown]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _shown(name: str, value: object) -> str:
    text = "".join(character if character.isprintable() else "?" for character in str(value))
    limit = WIDTHS.get(name, len(text))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201  the command's output


def _failed(message: str) -> int:
    line = " ".join(message.split())
    print(f"moorgate: {line}", file=sys.stderr)  # noqa: T201  the one line that helps
    return lifecycle.EXIT_FAILED
