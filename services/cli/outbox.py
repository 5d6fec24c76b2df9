"""`moorgate outbox import [FILE|-]`: decisions that a gateway printed at its stop, published with their own ids.

Repeating is harmless: the stream stores an id once within ten minutes, and an Audit folds the same decision once for ever.
A gateway's log is taken as it is: its `decision_unrecorded` lines hold decisions too, and its other lines are passed over.

Exit codes: 0 every decision is published, 1 a line is neither a decision nor a log line (named by its number and kept
out), 2 the file or a setting is at fault, 3 NATS does not answer or refuses.
"""

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import cyclopts
import msgspec

from services.cli import frame
from services.cli.frame import Flag, NatsFlags
from services.cli.output import write
from shared import contracts
from shared.broker import Broker
from shared.contracts import ADMISSION_DECIDED, AdmissionDecided
from shared.errors import BadSetting, Permanent, Unavailable
from shared.subjects import decision_subject

AT_ONCE = 64
"""Decisions under way."""

SHOWN = 20
"""Bad lines named; of the others the number."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)

app = cyclopts.App(name="outbox", help="Decisions that gateways could not publish.")


class _LogLine(msgspec.Struct):
    """A line of a gateway's log."""

    event: str
    decision: str = ""


_LOG_LINE = msgspec.json.Decoder(_LogLine)


@app.command(name="import")
def import_decisions(
    file: Annotated[str, cyclopts.Parameter(allow_leading_hyphen=True)] = "-",
    *,
    where: NatsFlags = NatsFlags(),  # noqa: B008  a value that never changes
    verbose: Flag = False,
) -> int:
    """Publish the decisions in a file with their own ids; safe to repeat.

    Parameters
    ----------
    file
        JSON lines, such as a gateway's log; `-`: from the input.
    """

    async def work() -> int:
        found, bad = _sorted(_lines(file))
        async with where.broker() as broker:
            try:
                await _publish(broker, found)
            except* Unavailable as errors:
                raise Unavailable(
                    "nats", f"not all could be published, repeat it: {errors.exceptions[0]}"
                ) from errors
        write(f"{len(found)} decisions published")
        for number, why in bad[:SHOWN]:
            frame.say(f"line {number}: {why}")
        if len(bad) > SHOWN:
            frame.say(f"and {len(bad) - SHOWN} more lines that are no decisions")
        return frame.EXIT_NO if bad else frame.EXIT_OK

    return frame.run(work, verbose=verbose)


def _lines(file: str) -> Iterator[bytes]:
    """Raises `BadSetting`."""
    if file == "-":
        yield from sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as lines:
            yield from lines
    except OSError as error:
        raise BadSetting(f"{file} cannot be read: {error.strerror}") from error


def _sorted(lines: Iterable[bytes]) -> tuple[dict[str, AdmissionDecided], list[tuple[int, str]]]:
    """Decisions by id, and the numbers of the lines that are none, with why."""
    found: dict[str, AdmissionDecided] = {}
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            decided = _decision(line.strip())
        except Permanent as error:
            bad.append((number, str(error)))
        else:
            if decided:
                found[decided.id] = decided
    return found, bad


def _decision(line: bytes) -> AdmissionDecided | None:
    """The decision in a line; None: a line of a log. Raises `Permanent`."""
    if not line:
        return None
    if logged := _logged(line):
        if logged.event != "decision_unrecorded":
            return None
        line = logged.decision.encode()
    decided = contracts.decode(line, ADMISSION_DECIDED)
    if not _ID.fullmatch(decided.id):
        raise Permanent("the id of the decision is no uid")
    if not _NAMESPACE.fullmatch(decided.namespace):
        raise Permanent("the namespace of the decision is no name of a namespace")
    contracts.encode(decided)
    return decided


def _logged(line: bytes) -> _LogLine | None:
    try:
        return _LOG_LINE.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


async def _publish(broker: Broker, found: dict[str, AdmissionDecided]) -> None:
    """Raises `Unavailable`."""
    numbers = iter(found.values())

    async def some() -> None:
        for decided in numbers:
            await broker.publish(decision_subject(decided.namespace), decided, decided.id)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
