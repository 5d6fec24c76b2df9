"""How often strangers may have a token looked at: the page is no way to hammer the API server, nor to try tokens out.

Each address has a few attempts, and all together have a few more; both come back with time. Whose token was good a
moment ago is no stranger. Pure but for the clock, which is handed in.
"""

from collections import OrderedDict

import msgspec

BURST, EVERY = 10, 2.0
"""Attempts of one address at once, and seconds until one of them comes back."""

BURST_OF_ALL, EVERY_OF_ALL = 60, 0.1
"""The same for all addresses together."""

MAX_ADDRESSES = 5000
"""Addresses remembered; who is forgotten begins anew, and the bound of all holds."""


class _Bucket(msgspec.Struct):
    left: float
    at: float


class Attempts:
    """Token buckets."""

    def __init__(self) -> None:
        self._all = _Bucket(BURST_OF_ALL, 0.0)
        self._each: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str, now: float) -> float:
        """Use one attempt; gives the seconds to wait where there is none (0: go on)."""
        bucket = self._each.pop(address, None) or _Bucket(BURST, now)
        self._each[address] = bucket
        if len(self._each) > MAX_ADDRESSES:
            self._each.popitem(last=False)
        wait = max(_missing(bucket, now, BURST, EVERY), _missing(self._all, now, BURST_OF_ALL, EVERY_OF_ALL))
        if not wait:
            bucket.left -= 1
            self._all.left -= 1
        return wait


def _missing(bucket: _Bucket, now: float, burst: int, every: float) -> float:
    """Seconds until the bucket has a whole attempt."""
    bucket.left = min(burst, bucket.left + max(0.0, now - bucket.at) / every)
    bucket.at = now
    return max(0.0, (1 - bucket.left) * every)
