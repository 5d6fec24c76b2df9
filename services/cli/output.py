"""How commands show what they found: a table for people, JSON or YAML for programs.

Names, messages and reasons are strangers' texts: a table shows them printable and cut, JSON and YAML have them whole.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import yaml

from services.cli.frame import Output

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def emit(value: Any, output: Output, text: str) -> None:
    """Print `value` for programs, or `text` for people."""
    if output == "json":
        write(msgspec.json.format(msgspec.json.encode(value)).decode())
    elif output == "yaml":
        write(_yaml(value))
    else:
        write(text)


def emit_one(value: Any, output: Output, text: str) -> None:
    """The same for one of a row without an end: a line of JSON, a document of YAML."""
    if output == "json":
        write(msgspec.json.encode(value).decode())
    elif output == "yaml":
        write(f"---\n{_yaml(value)}")
    else:
        write(text)


def write(text: str) -> None:
    """The command's output."""
    print(text, flush=True)  # noqa: T201  the command's output


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
    shown = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
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


def _yaml(value: Any) -> str:
    content = msgspec.json.decode(msgspec.json.encode(value))
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True)).rstrip()
