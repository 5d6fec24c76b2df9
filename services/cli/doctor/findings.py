"""What a misconfiguration is to `moorgate doctor`: what is wrong, why that matters, and the one thing that mends it."""

from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum

import msgspec

from services.cli import frame
from shared.errors import MoorgateError


class Severity(StrEnum):
    """How much it matters."""

    ERROR = "error"
    """Something does not work, or is open that must not be."""
    WARNING = "warning"
    """It works, and will not on a bad day."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


class Finding(msgspec.Struct, frozen=True):
    """One of them."""

    check: str
    """Where it was found: the name of a check."""
    severity: Severity
    what: str
    mend: str


Check = Callable[[], Awaitable[Iterable[Finding]]]


async def checked(name: str, check: Check) -> list[Finding]:
    """What the check found; or why it could not look, which hides no other."""
    try:
        return list(await check())
    except (MoorgateError, OSError, msgspec.MsgspecError) as error:
        return [unseen(name, frame.explain(error))]


def unseen(name: str, why: str) -> Finding:
    """What could not be looked at."""
    return Finding(name, Severity.UNKNOWN, why, "look again with more rights (docs/command-line.md)")


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where something is to be mended, else 3 where one could not look."""
    found = {each.severity for each in findings}
    if found & {Severity.ERROR, Severity.WARNING}:
        return frame.EXIT_NO
    return frame.EXIT_UNKNOWN if found else frame.EXIT_OK
