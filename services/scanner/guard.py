"""The scans' way to an Anchore: past the breaker, through a slot, and what came of it told to both.

The housekeeping goes round it: its calls are few, and they are what closes the breaker.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from services.scanner.anchore import Anchore, Bundle, Evaluation, Image
from services.scanner.breaker import Breaker
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.limits import CallLimit, Slots
from shared.errors import Unavailable
from shared.images import ImageReference
from shared.subjects import Lane

T = TypeVar("T")

_LIMITED = ("image_add", "image_get", "check")


class CallSlots:
    """The slots of one tenant, both lanes': each kind of call has a bound of its own, for they weigh differently."""

    def __init__(self, maximum: int) -> None:
        """`maximum`: calls of a kind at once."""
        self.limits = {operation: CallLimit(maximum) for operation in _LIMITED}
        self.slots = {operation: Slots(limit) for operation, limit in self.limits.items()}


class GuardedAnchore:
    """One lane's view of a tenant's Anchore."""

    def __init__(self, anchore: Anchore, breaker: Breaker, slots: CallSlots, lane: Lane) -> None:
        self._anchore = anchore
        self._breaker = breaker
        self._slots = slots
        self._lane = lane

    async def add_image(self, reference: ImageReference) -> Image:
        """See `Anchore`."""
        return await self._call("image_add", partial(self._anchore.add_image, reference))

    async def image(self, digest: str) -> Image | None:
        """See `Anchore`."""
        return await self._call("image_get", partial(self._anchore.image, digest))

    async def check(
        self, digest: str, reference: ImageReference, bundle_id: str, operation: str = "check"
    ) -> Evaluation:
        """See `Anchore`."""
        return await self._call(
            "check", partial(self._anchore.check, digest, reference, bundle_id, operation)
        )

    async def bundles(self) -> list[Bundle]:
        """See `Anchore`."""
        return await self._anchore.bundles()

    async def _call(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self._breaker.must_be_closed()
        async with self._slots.slots[operation].slot(self._lane) as turn:
            self._breaker.must_be_closed()  # it may have opened while this call stood in the queue
            try:
                answer = await call()
            except Unavailable as error:
                turn.refused()
                self._breaker.failed(operation, str(error))
                raise
            except TryAgain as error:
                self._breaker.failed(operation, str(error))
                raise
            except (ScanFailed, NotAnalyzed):
                turn.answered()
                self._breaker.answered(operation)
                raise
            turn.answered()
            self._breaker.answered(operation)
            return answer
