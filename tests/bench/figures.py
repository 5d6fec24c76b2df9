"""Figures and targets: what a bench gives, as it is kept in `bench-results/`.

A figure is the median of its runs, which are kept beside it: one number of a shared machine says little. One
without a target is reported only.
"""

import statistics
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import msgspec


class Sense(Enum):
    """Which side of its bound is the good one."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


class Target(msgspec.Struct, frozen=True):
    """A bound that a figure should keep."""

    sense: Sense
    bound: float

    def is_met(self, value: float) -> bool:
        """Whether the value is on the good side."""
        return value >= self.bound if self.sense is Sense.AT_LEAST else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sense.value} {self.bound:g}"


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure as it is written down."""

    name: str
    value: float
    """The median of the runs."""
    unit: str
    target: str | None
    met: bool | None
    runs: list[float]
    note: str = ""


def at_least(bound: float) -> Target:
    """The value, or more."""
    return Target(Sense.AT_LEAST, bound)


def at_most(bound: float) -> Target:
    """The value, or less."""
    return Target(Sense.AT_MOST, bound)


def figure(
    name: str, unit: str, runs: Sequence[float], target: Target | None = None, note: str = ""
) -> Figure:
    """A figure of its runs."""
    value = statistics.median(runs)
    return Figure(
        name=name,
        value=_rounded(value),
        unit=unit,
        target=str(target) if target else None,
        met=target.is_met(value) if target else None,
        runs=[_rounded(run) for run in runs],
        note=note,
    )


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Pair by pair: what was measured side by side is compared, whatever the machine did meanwhile."""
    return [a / b for a, b in zip(of, to, strict=True)]


def read(path: Path) -> list[Figure]:
    """The figures of a file; none where there is no file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Figure]) if path.exists() else []


LATEST, REPORTED = "latest.json", "reported.json"


def known(results: Path) -> dict[str, Figure]:
    """Everything that was measured last, by name."""
    return {each.name: each for file in (LATEST, REPORTED) for each in read(results / file)}


def keep(results: Path, found: Sequence[Figure]) -> None:
    """One entry a target in `latest.json`, all else in `reported.json`; what was not measured now stays."""
    for file, is_target in ((LATEST, True), (REPORTED, False)):
        new = [each for each in found if (each.target is not None) is is_target]
        write(results / file, merge(read(results / file), new))


def write(path: Path, figures: Sequence[Figure]) -> None:
    """As JSON a person can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")


def merge(old: Sequence[Figure], new: Sequence[Figure]) -> list[Figure]:
    """The new ones in the place of those of their names; what was not measured now stays."""
    latest = {each.name: each for each in (*old, *new)}
    return list(latest.values())


def _rounded(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")
