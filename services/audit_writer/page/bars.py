"""The trend as a picture: where each bar stands, in the units of the SVG. Pure; the template only writes it down.

Anything that happened is seen, however tall its neighbours: the least bar has two units.
"""

from collections.abc import Sequence
from datetime import timedelta

import msgspec

from services.audit_writer.page.trend import Course, Hour

WIDTH, HEIGHT = 840, 150
"""Of the field of bars: five units an hour."""

SMALL_WIDTH, SMALL_HEIGHT = 420, 90
"""The same beside other things."""

LEAST = 2
"""Units that the smallest number has."""

_DAY = timedelta(days=1)


class Bar(msgspec.Struct, frozen=True):
    """One number of one hour."""

    course: str
    x: float
    y: float
    width: float
    height: float


class Mark(msgspec.Struct, frozen=True):
    """A label below the bars: a day begins."""

    x: float
    text: str


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """All that is drawn."""

    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    top: int
    """What the highest line stands for."""
    width: int
    height: int


def stacked(
    hours: Sequence[Hour], courses: Sequence[Course], width: int = WIDTH, height: int = HEIGHT
) -> Picture:
    """One pile an hour, the first of `courses` at its foot."""
    top = _round_up(max((sum(each.counts[course] for course in courses) for each in hours), default=0))
    step = width / max(1, len(hours))
    bars = []
    for place, each in enumerate(hours):
        foot = float(height)
        for course in courses:
            if not each.counts[course]:
                continue
            tall = max(LEAST, each.counts[course] / top * height)
            foot -= tall
            bars.append(
                Bar(
                    course.name.lower(),
                    round(place * step, 1),
                    round(max(0.0, foot), 1),
                    round(step * 0.8, 1),
                    round(tall, 1),
                )
            )
    return Picture(bars=tuple(bars), marks=_marks(hours, step), top=top, width=width, height=height)


def _marks(hours: Sequence[Hour], step: float) -> tuple[Mark, ...]:
    return tuple(
        Mark(round(place * step, 1), f"{each.start:%a} {each.start.day}")
        for place, each in enumerate(hours)
        if each.start.hour == 0
    )


def _round_up(number: int) -> int:
    """The next 1, 2, 5, 10, 20, 50 …: a line that people can read off."""
    size = 1
    while True:
        for step in (1, 2, 5):
            if number <= step * size:
                return step * size
        size *= 10
