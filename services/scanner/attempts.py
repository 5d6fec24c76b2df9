"""How often a scan's work was begun, counted before it is: a request that ends its worker must not do so for ever.

A first delivery needs no count: only a second one can tell that the first came to nothing. From then on every
attempt is noted in the scan state before its work, and every end of an attempt (verdict, pending, error) sets the
count back. What is counted so many times has killed as many workers, and goes to the dead letters.
"""

from collections import Counter
from datetime import datetime, timedelta

import msgspec

from services.scanner import delays
from shared.contracts import ScanError, ScanPending, ScanRequest, ScanState, Verdict

MAX_BEGUN = 4
"""Times the work may be begun without anything coming of it."""

NOT_KNOWN = ""
"""The digest in a state that was written before anything was asked."""

MAX_STUMBLES_REMEMBERED = 10_000
"""Keys whose stumbles are counted at once; beyond, all counts begin anew."""

ABANDONED = f"the scan of this image ended its scanner {MAX_BEGUN} times; see: moorgate dead list"
"""What everybody is told then."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the buckets say when a scan begins."""

    verdict: Verdict | None
    revision: int
    state: ScanState | None
    state_revision: int


def is_abandoned(known: Known) -> bool:
    """It has been given up, and would end its worker again; only `moorgate dead retry` takes it up."""
    return isinstance(known.state, ScanError) and known.state.begun > MAX_BEGUN


def is_look(known: Known) -> bool:
    """An analysis under way is looked at again. What a worker left behind when it died is none: it may not wait."""
    return isinstance(known.state, ScanPending) and known.state.attempt > 0


def begun_again(request: ScanRequest, known: Known, now: datetime) -> ScanState:
    """The state to be written before the work of a redelivery: what it was, with one more attempt begun."""
    if known.state is not None:
        return msgspec.structs.replace(known.state, begun=known.state.begun + 1)
    verdict = known.verdict
    return ScanPending(
        tenant=request.tenant,
        image=request.image,
        bundle_id=request.bundle_id,
        digest=verdict.digest if verdict else NOT_KNOWN,
        list_digest=verdict.list_digest if verdict else "",
        since=request.asked_at,
        next_look=now + timedelta(seconds=delays.LONGEST_LOOK),
        attempt=0,
        begun=2,
    )


class Stumbles:
    """How many times in a row nothing came of a key in this process, though its worker lives."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def again(self, key: str) -> int:
        """Counts one more; gives how many there are."""
        if len(self._counts) >= MAX_STUMBLES_REMEMBERED:
            self._counts.clear()
        self._counts[key] += 1
        return self._counts[key]

    def over(self, key: str) -> None:
        """Something came of it."""
        self._counts.pop(key, None)
