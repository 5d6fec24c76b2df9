"""What was folded without a write, because the Audit says it already: remembered, so that order still holds.

Of a thousand Pods of one workload that meet the same answer only the first is written. The Audit then still
bears the first one's time, and an older decision of another outcome that comes late would pass for newer.
So the newest state of each such Audit is kept here and takes part in its next fold.

What it cannot do: another replica knows nothing of it, and neither does this process after a restart. Then
a decision that comes late, and is older than one folded without a write, is shown as the newest until the
next decision about the workload is folded by whoever. That one is newer than both, and every fold is by
(`decidedAt`, id): the record heals, at the latest with the next Pod, and no refusal was let in by it.
"""

from collections import OrderedDict

import msgspec

from shared.crds import Audit

MAX_BYTES = 32 * 1024 * 1024
"""Kept at once, as JSON: the usual Audit takes 2 KiB, none more than 64."""

_AUDIT = msgspec.json.Decoder(Audit)


class Unwritten:
    """The newest unwritten state of Audits, by the Audit's uid; what was not used for longest gives way."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._states: OrderedDict[str, bytes] = OrderedDict()

    def recall(self, uid: str | None) -> Audit | None:
        """What is kept of the Audit with this uid."""
        state = self._states.get(uid or "")
        return None if state is None else _AUDIT.decode(state)

    def keep(self, uid: str | None, state: Audit) -> None:
        """This is what the Audit with this uid would say."""
        if uid is None:
            return
        self.forget(uid)
        encoded = msgspec.json.encode(state)
        self._states[uid] = encoded
        self._bytes += len(encoded)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._states.popitem(last=False)[1])

    def forget(self, uid: str | None) -> None:
        """It is written now, or gone."""
        self._bytes -= len(self._states.pop(uid or "", b""))

    def __len__(self) -> int:
        return len(self._states)
