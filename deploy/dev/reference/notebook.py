"""An environment that notes what it is asked: type, default and bounds of each setting, as the code has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeVar

from deploy.dev.reference.markdown import code
from shared.settings import Environment, Listen, Secret

E = TypeVar("E", bound=Enum)


@dataclass(frozen=True)
class Reading:
    """What was asked of the environment."""

    weight: int
    """Of two questions about one setting that with more to say counts: a path is first asked for as a text."""
    kind: str
    default: str = ""


class Notebook(Environment):
    """An environment that notes what it is asked."""

    def __init__(self, variables: Mapping[str, str], readings: dict[str, Reading]) -> None:
        self._readings = readings
        super().__init__(variables)

    def _note(self, name: str, reading: Reading) -> None:
        if name not in self._readings or self._readings[name].weight < reading.weight:
            self._readings[name] = reading

    def text(self, name: str, default: str | None = None) -> str:
        """A text."""
        self._note(name, Reading(1, "text", "required" if default is None else default))
        return super().text(name, default)

    def optional(self, name: str) -> str | None:
        """A text that may be missing."""
        self._note(name, Reading(0, "text"))
        return super().optional(name)

    def words(self, name: str, default: str) -> tuple[str, ...]:
        """A list."""
        self._note(name, Reading(2, "words with commas", default))
        return super().words(name, default)

    def duration(
        self, name: str, default: str, *, minimum: float = 0.0, maximum: float | None = None
    ) -> float:
        """A duration, with its bounds."""
        bounds = [f"at least {minimum:g} s"] * bool(minimum) + [
            f"at most {(maximum or 0) / 60:g} min"
        ] * bool(maximum)
        self._note(name, Reading(2, ", ".join(["duration", *bounds]), default))
        return super().duration(name, default, minimum=minimum, maximum=maximum)

    def size(self, name: str, default: str, *, minimum: int, maximum: int) -> int:
        """Bytes, with their bounds."""
        bounds = f"from {minimum // 1024**2}Mi to {maximum // 1024**2}Mi"
        self._note(name, Reading(2, f"size, {bounds}", default))
        return super().size(name, default, minimum=minimum, maximum=maximum)

    def integer(self, name: str, default: int, *, minimum: int = 1) -> int:
        """A whole number, with its bound."""
        self._note(name, Reading(2, f"whole number, at least {minimum}", str(default)))
        return super().integer(name, default, minimum=minimum)

    def flag(self, name: str, *, default: bool) -> bool:
        """A flag."""
        self._note(name, Reading(2, "`true`, `false`", str(default).lower()))
        return super().flag(name, default=default)

    def choice(self, name: str, kind: type[E], default: E) -> E:
        """One of these words."""
        self._note(name, Reading(2, code(each.value for each in kind), str(default.value)))
        return super().choice(name, kind, default)

    def listen(self, name: str, default: str) -> Listen:
        """An address."""
        self._note(name, Reading(2, "host:port", default))
        return super().listen(name, default)

    def file(self, name: str) -> Path | None:
        """A path."""
        self._note(name, Reading(2, "path of a file"))
        return super().file(name)

    def secret(self, name: str) -> Secret | None:
        """A secret, or the path of one."""
        self._note(name, Reading(2, "secret"))
        return super().secret(name)
