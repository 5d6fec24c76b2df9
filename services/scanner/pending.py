"""Which scans wait for an analysis, found by the digest that is analysed: what a notification names.

A Pod may name an image by tag and digest at once, and Anchore knows such a one by neither of that name's parts alone.
The scan state holds both the digest and the reference, so the states are mirrored and indexed; there are few.
"""

from collections import defaultdict
from collections.abc import Iterable

from shared import contracts, subjects
from shared.broker import Broker
from shared.buckets import BucketMirror
from shared.contracts import ScanPending
from shared.errors import Permanent


class PendingImages:
    """The pending scans of all tenants."""

    def __init__(self, broker: Broker) -> None:
        self._mirror = BucketMirror(broker, subjects.SCAN_STATES)
        self._mirror.on_change(self._changed)
        self._states: dict[str, ScanPending] = {}
        self._keys: defaultdict[str, set[str]] = defaultdict(set)

    async def run(self) -> None:
        """Follow the scan states until cancelled."""
        await self._mirror.run()

    def of(self, digests: Iterable[str]) -> list[ScanPending]:
        """The scans that wait for one of these images, by the manifest's digest or the list's."""
        keys = {key for digest in digests for key in self._keys.get(digest, ())}
        return [self._states[key] for key in sorted(keys)]

    def _changed(self, key: str | None) -> None:
        if key is not None:
            self._replace(key)
            return
        self._states.clear()
        self._keys.clear()
        for each in self._mirror:
            self._replace(each)

    def _replace(self, key: str) -> None:
        if before := self._states.pop(key, None):
            for digest in (before.digest, before.list_digest):
                self._keys[digest].discard(key)
                if not self._keys[digest]:
                    del self._keys[digest]
        if (state := self._pending(key)) is not None:
            self._states[key] = state
            for digest in (state.digest, state.list_digest):
                self._keys[digest].add(key)

    def _pending(self, key: str) -> ScanPending | None:
        entry = self._mirror.get(key)
        try:
            state = contracts.decode(entry.value, contracts.SCAN_STATE) if entry else None
        except Permanent:
            return None
        return state if isinstance(state, ScanPending) else None
