"""The real server's two races between equal requests, behind a switch since they make tests random.

Of equal POSTs of a new image at once some answer 500; of equal checks at once some answer that no evaluation could be found
(`interactive=true` never does). Here it is every second POST that meets another one in hand, and every third such check.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.dev.anchore.accounts import Space
from deploy.dev.anchore.errors import no_evaluation, refused

_EVERY = {"image_add": 2, "check": 3}

DELAY = 0.05
"""Seconds for which a call of these operations is in hand, so that equal calls do meet."""


class Traps:
    """Knows which equal calls are in hand."""

    def __init__(self, *, are_set: bool) -> None:
        self.are_set = are_set
        self._in_hand: Counter[tuple[str, ...]] = Counter()
        self._met: Counter[str] = Counter()

    def concerns(self, operation: str) -> bool:
        """Whether equal calls of the operation get into each other's way."""
        return self.are_set and operation in _EVERY

    @contextmanager
    def passing(self, key: tuple[str, ...]) -> Iterator[None]:
        """Counts the call as in hand."""
        self._in_hand[key] += 1
        try:
            yield
        finally:
            self._in_hand[key] -= 1

    def spring(self, operation: str, key: tuple[str, ...], query: dict[str, str]) -> None:
        """Raise what the real server's database conflict turns into, for some of the calls that meet."""
        if self._in_hand[key] < 2 or query.get("interactive", "").lower() == "true":  # noqa: PLR2004 - itself and another
            return
        self._met[operation] += 1
        if self._met[operation] % _EVERY[operation]:
            return
        if operation == "check":
            raise no_evaluation()
        raise refused(500, "cannot add image, failed to update archive/DB")


def is_new(space: Space, names: tuple[str, ...]) -> bool:
    """Whether no record has any of these tags: equal POSTs of a known image never collide."""
    return not any(space.newest_of(name) for name in names)
