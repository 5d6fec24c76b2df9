"""Whether a series is flat: what it holds in its last quarter against its second, the first being for warming up. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

SHARE = 0.05
"""Growth of the median, as a share of it, that is no growth."""

SLACK: Mapping[str, float] = {
    "RSS MiB": 4.0,
    "descriptors": 8,
    "tasks": 16,
    "outbox entries": 50,
    "verdicts": 0,
    "waiting": 200,
    "messages": 50,
    "MiB": 0.5,
    "consumers": 0,
}
"""And so much more, in the unit of the series: what a load that is not quite even makes."""

LEAST = 8
"""Samples below which nothing can be said."""


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one series."""

    name: str
    early: float
    """Median of the second quarter."""
    late: float
    """Median of the last."""
    is_flat: bool
    is_meant_to_grow: bool = False


def growth(name: str, series: Sequence[float], *, is_meant_to_grow: bool = False) -> Growth:
    """The verdict. Raises ValueError for a series that is too short, or of a unit that is not known."""
    if len(series) < LEAST:
        raise ValueError(f"{name}: {len(series)} samples are too few")
    unit = name.rpartition(": ")[2]
    if unit not in SLACK:
        raise ValueError(f"{name}: how much {unit!r} may grow is not known")
    quarter = len(series) // 4
    early, late = median(series[quarter : 2 * quarter]), median(series[-quarter:])
    return Growth(
        name=name,
        early=early,
        late=late,
        is_flat=late <= early * (1 + SHARE) + SLACK[unit],
        is_meant_to_grow=is_meant_to_grow,
    )
