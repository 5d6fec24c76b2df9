"""A bound on scans of never-seen references, for each namespace: made-up images must cost others nothing.

One token bucket a namespace. Beyond it the image is pending without a scan: it waits its turn like any
other, and other namespaces are answered as before. Known images, and those whose scan is under way,
take no token.
"""

import re
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from shared.errors import BadSetting

MAX_NAMESPACES = 10_000
"""Namespaces remembered; the one longest quiet is forgotten first, which gives it a full bucket."""

_RATE = re.compile(r"([0-9]{1,9})/(s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


class Rate(msgspec.Struct, frozen=True):
    """So many in so many seconds; as many may come at once."""

    count: int
    seconds: float


def parse_rate(name: str, text: str) -> Rate:
    """A rate written as `50/min`. Raises `BadSetting`, naming the setting."""
    found = _RATE.fullmatch(text)
    if found is None or int(found[1]) < 1:
        raise BadSetting(f"{name} is {text!r}: it must be a rate such as 50/min (s, min or h)")
    return Rate(int(found[1]), _SECONDS[found[2]])


class ScanRates:
    """Who may have one more scan now."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, namespace: str) -> bool:
        """One token of the namespace's, if it has one."""
        now = self._clock()
        tokens, since = self._buckets.pop(namespace, (float(self._rate.count), now))
        tokens = min(self._rate.count, tokens + (now - since) * self._rate.count / self._rate.seconds)
        has_token = tokens >= 1
        self._buckets[namespace] = (tokens - 1 if has_token else tokens, now)
        if len(self._buckets) > MAX_NAMESPACES:
            self._buckets.popitem(last=False)
        return has_token
