"""Whether an Anchore really evaluates: a check of an image that it has checked before.

The Engine's `/health` and `/v1/status` stay green with its policy engine dead, so they say nothing. While scans
succeed they are the proof; only after a quiet time, or when Anchore was away, a known image is checked again.
"""

import asyncio
from typing import NamedTuple

from services.scanner.anchore import Anchore
from services.scanner.failures import NotAnalyzed, ScanFailed
from shared.images import ImageReference

QUIET = 300.0
"""Seconds without a successful check after which one is made for its own sake."""


class _Checked(NamedTuple):
    digest: str
    reference: ImageReference
    bundle_id: str


class Health:
    """One tenant's Anchore."""

    def __init__(self, anchore: Anchore) -> None:
        """`anchore`: not the guarded one, for this is also asked while the breaker is open."""
        self._anchore = anchore
        self._known: _Checked | None = None
        self._checked_at = 0.0

    def checked(self, digest: str, reference: ImageReference, bundle_id: str) -> None:
        """A scan's check was answered with an evaluation."""
        self._known = _Checked(digest, reference, bundle_id)
        self._checked_at = asyncio.get_running_loop().time()

    async def look(self, *, in_doubt: bool) -> None:
        """Check the known image when it is time, or at once when `in_doubt`. Raises `TryAgain` and `Unavailable`."""
        now = asyncio.get_running_loop().time()
        if self._known is None or not (in_doubt or now - self._checked_at >= QUIET):
            return
        try:
            await self._anchore.check(*self._known, "health_check")
        except (ScanFailed, NotAnalyzed):  # deleted or queued anew meanwhile: an answer all the same
            self._known = None
        self._checked_at = now
