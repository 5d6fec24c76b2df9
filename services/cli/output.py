"""How commands show what they found: a table for people, JSON or YAML for programs.

Names, messages and reasons are strangers' texts: a table shows them printable and cut, JSON and YAML have them whole and
escaped.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import yaml

from services.cli import frame
from services.cli.frame import Output

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def emit(value: Any, output: Output, text: str) -> None:
    """Print `value` for programs, or `text` for people."""
    if output == "json":
        write(_escaped(msgspec.json.format(msgspec.json.encode(value)).decode()))
    elif output == "yaml":
        write(_yaml(value))
    else:
        write(text)


def emit_one(value: Any, output: Output, text: str) -> None:
    """The same for one of a row without an end: a line of JSON, a document of YAML.

    Raises BrokenPipeError when nobody reads on, by which `frame.run` ends.
    """
    if output == "json":
        text = _escaped(msgspec.json.encode(value).decode())
    elif output == "yaml":
        text = f"---\n{_yaml(value)}"
    print(text, flush=True)  # noqa: T201  the command's output


def write(text: str) -> None:
    """The command's output. Who reads may have seen enough, such as `head`: the command goes on, its exit code counts."""
    try:
        print(text, flush=True)  # noqa: T201  the command's output
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(names: Sequence[str], rows: Iterable[Sequence[str]], nothing: str) -> str:
    """Columns under their names, or `nothing` where there is no row."""
    lines = [[name.upper() for name in names], *([printable(cell) for cell in row] for row in rows)]
    if len(lines) == 1:
        return nothing
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def printable(text: str, limit: int = 90) -> str:
    """One line without control characters, cut to `limit`."""
    shown = frame.printable(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def age(since: datetime | None, now: datetime) -> str:
    """How long ago, as kubectl says it: `45s`, `12m`, `5h`, `3d`."""
    return "" if since is None else span((now - since).total_seconds())


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    whole = max(0, int(seconds))
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if whole >= 2 * unit:
            return f"{whole // unit}{letter}"
    return f"{whole}s"


def _escaped(json: str) -> str:
    """The same JSON, without characters that a terminal would obey: of those JSON itself escapes only some."""
    return "".join(each if each.isprintable() or each == "\n" else _escape(each) for each in json)


def _escape(character: str) -> str:
    """As JSON writes it (RFC 8259, 7): two halves above the first plane."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _yaml(value: Any) -> str:
    content = msgspec.json.decode(msgspec.json.encode(value))
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=False)).rstrip()
