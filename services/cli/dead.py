"""`moorgate dead`: the messages that no repetition helped, for a person to look at, try again or drop.

`retry` and `drop` say for each letter what came of it, and go on after one that cannot be helped. Exit codes: 0 all
went well, 1 a letter could not be helped (the line says why), 2 a flag or a setting is at fault, 3 NATS does not answer or
refuses. Texts of messages are strangers' texts: a table shows them printable and cut.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import cyclopts
import msgspec

from services.cli import frame
from services.cli.dead_letters import DeadLetters, NoRetry, Stored, about
from services.cli.frame import NatsFlags, Output, Text
from services.cli.output import emit, printable, table, write
from shared.errors import BadSetting

WIDTHS = {"reason": 60, "about": 90}
"""Characters of a table's column; JSON has them whole."""

_WHOLE = 90

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


class _Done(msgspec.Struct, kw_only=True):
    """What came of one letter."""

    sequence: int
    done: str = ""
    error: str = ""


@app.command(name="list")
def list_letters(
    *,
    what: str | None = None,
    output: Text = "text",
    where: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
) -> int:
    """Show the letters, the oldest first.

    Parameters
    ----------
    what
        Only those of this kind: scan, decision, notification.
    output
        A table, or JSON or YAML with the messages themselves (Base64).
    """

    async def show(letters: DeadLetters) -> int:
        rows = [_row(each) async for each in letters.all(_kind(what))]
        emit(rows, output, _table(rows))
        return frame.EXIT_OK

    return _run(show, where)


@app.command
def retry(
    *sequences: int,
    every: All = False,
    what: str | None = None,
    output: Text = "text",
    where: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
) -> int:
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

    return _for_each(_Chosen(sequences, every, what), again, output, where)


@app.command
def drop(
    *sequences: int,
    every: All = False,
    what: str | None = None,
    output: Text = "text",
    where: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
) -> int:
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

    return _for_each(_Chosen(sequences, every, what), away, output, where)


class _Chosen(msgspec.Struct, frozen=True):
    """Which letters."""

    sequences: tuple[int, ...]
    every: bool
    what: str | None

    async def letters(self, letters: DeadLetters) -> AsyncIterator[tuple[int, Stored | None]]:
        """All of them means those that are there now: one that dies again waits for the next time."""
        if self.sequences:
            for number in dict.fromkeys(self.sequences):
                yield number, await letters.get(number) if number > 0 else None
            return
        for stored in [each async for each in letters.all(_kind(self.what))]:
            yield stored.number, stored


def _for_each(
    chosen: _Chosen,
    do: Callable[[DeadLetters, Stored], Awaitable[str]],
    output: Output,
    where: NatsFlags,
) -> int:
    async def work(letters: DeadLetters) -> int:
        came = []
        async for number, stored in chosen.letters(letters):
            one = await _done(letters, number, stored, do)
            came.append(one)
            if one.error:
                frame.say(one.error)
            elif output == "text":
                write(f"{number}: {one.done}")
        if output != "text":
            emit(came, output, "")
        return frame.EXIT_NO if any(each.error for each in came) else frame.EXIT_OK

    if bool(chosen.sequences) == chosen.every or (chosen.what and not chosen.every):
        frame.say("say which letters: their numbers, or --all, and then --what if you like")
        return frame.EXIT_BAD_FLAG
    return _run(work, where)


async def _done(
    letters: DeadLetters,
    number: int,
    stored: Stored | None,
    do: Callable[[DeadLetters, Stored], Awaitable[str]],
) -> _Done:
    if stored is None:
        return _Done(sequence=number, error=f"there is no dead letter {number}; see: moorgate dead list")
    try:
        return _Done(sequence=number, done=await do(letters, stored))
    except NoRetry as error:
        return _Done(sequence=number, error=f"{number}: {error}")


def _run(work: Work, where: NatsFlags) -> int:
    async def connected() -> int:
        async with where.broker() as broker:
            return await work(DeadLetters(broker))

    return frame.run(connected)


def _kind(what: str | None) -> str | None:
    """A kind is one part of a subject. Raises `BadSetting`."""
    if what is not None and not what.isalnum():
        raise BadSetting(f"--what is {what!r}: it must be a kind such as scan, decision or notification")
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
    names = ("sequence", "when", "what", "deliveries", "reason", "about")
    shown = [[printable(str(getattr(row, name)), WIDTHS.get(name, _WHOLE)) for name in names] for row in rows]
    return table(names, shown, "no dead letters")
