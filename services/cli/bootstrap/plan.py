"""What is done, or with `--dry-run` would be: every change goes through `Plan.change`, and leaves one line.

A dry run therefore changes nothing by construction, and a run that finds all as it should be says only `unchanged`.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from shared.errors import MoorgateError


class Failed(MoorgateError):
    """A step that cannot be done; the text says what to do about it."""


class Verb(StrEnum):
    """What became of a thing."""

    CREATED = "created"
    UPDATED = "updated"
    ACTIVATED = "activated"
    UNCHANGED = "unchanged"
    WARNING = "warning"
    BY_HAND = "by hand"


_WOULD = {Verb.CREATED: "create", Verb.UPDATED: "update", Verb.ACTIVATED: "activate"}


class Step(msgspec.Struct, frozen=True):
    """One line of the plan."""

    verb: Verb
    what: str

    def show(self, *, is_dry: bool) -> str:
        """As it is printed."""
        verb = f"would {_WOULD[self.verb]}" if is_dry and self.verb in _WOULD else str(self.verb)
        return f"{verb:<14} {self.what}"


class Plan:
    """Gathers the steps; `say` hears of each as it is done."""

    def __init__(self, say: Callable[[str], None], *, is_dry: bool) -> None:
        self.is_dry = is_dry
        self.steps: list[Step] = []
        self._say = say

    async def change(self, verb: Verb, what: str, act: Callable[[], Awaitable[object]]) -> None:
        """Do it, save in a dry run, and note it."""
        if not self.is_dry:
            await act()
        self.note(verb, what)

    def note(self, verb: Verb, what: str) -> None:
        """What needed no change, or what the operator should know."""
        step = Step(verb, what)
        self.steps.append(step)
        self._say(step.show(is_dry=self.is_dry))
