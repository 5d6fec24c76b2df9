"""A part of Moorgate as `moorgate status` shows it, and how a look at one becomes that, whatever happens.

One look that fails says so in its own line and hides no other.
"""

from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum

import msgspec

from services.cli import frame
from shared.errors import MoorgateError


class Health(StrEnum):
    """How a part is."""

    OK = "ok"
    ATTENTION = "attention"
    """It works; somebody should look."""
    BAD = "bad"
    UNKNOWN = "unknown"
    """It could not be looked at."""


class Part(msgspec.Struct, frozen=True):
    """One line."""

    name: str
    health: Health
    detail: str


Look = Callable[[], Awaitable[Iterable[Part]]]


async def looked_at(name: str, look: Look) -> list[Part]:
    """What the look found; or why it could not look."""
    try:
        return list(await look())
    except (MoorgateError, OSError, msgspec.MsgspecError) as error:
        return [Part(name, Health.UNKNOWN, frame.explain(error))]


def exit_code(parts: Iterable[Part]) -> int:
    """1 where a part is bad, else 3 where one could not be looked at."""
    found = {part.health for part in parts}
    if Health.BAD in found:
        return frame.EXIT_NO
    return frame.EXIT_UNKNOWN if Health.UNKNOWN in found else frame.EXIT_OK
