"""Verdicts, scan states and tenants' bundles: typed reading from the mirrors, guarded writing by scanners.

`VerdictMirror` answers the gateway and the audit-writer from memory and wakes whoever waits for a key.
`VerdictBuckets` is the scanner's side: it writes a verdict only over the revision it read before, so an
answer that took too long is dropped whatever the clocks say.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from shared import contracts, subjects
from shared.broker import Broker
from shared.buckets import Bucket, BucketMirror, Entry
from shared.contracts import ScanError, ScanPending, ScanState, TenantRecord, Verdict
from shared.errors import Permanent
from shared.verdicts import StoredVerdict

STATE_MEMORY = 600.0
"""Seconds a lapsed error state is kept: the next attempt grows its delay by the number it finds there."""

ABANDONED_MEMORY = 24 * 3600.0
"""Seconds that a scan which killed its workers is remembered: it would do so again."""

BEGUN_MEMORY = 3600.0
"""Seconds that an attempt which was begun is remembered, as long as its request lives in the stream: a scanner that
died may be kept from starting again for minutes, and would count from the beginning each time."""


LATE_LOOK = 30.0
"""Seconds by which a look may be late and still find its pending state: one that finds no room is put off again, and
without the state it would forget since when the analysis is waited for, and ask the registry anew."""


class VerdictMirror:
    """Verdicts, scan states and tenants in memory; values that cannot be decoded count as absent."""

    def __init__(self, broker: Broker) -> None:
        self.verdicts = BucketMirror(broker, subjects.VERDICTS)
        self.states = BucketMirror(broker, subjects.SCAN_STATES)
        self.tenants = BucketMirror(broker, subjects.TENANTS)
        self._tenant_records: dict[str, tuple[Entry, TenantRecord | None]] = {}
        """As decoded last: every image of every admission asks for one."""
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        for mirror in (self.verdicts, self.states):
            mirror.on_change(self._wake)

    @property
    def mirrors(self) -> tuple[BucketMirror, BucketMirror, BucketMirror]:
        """The three, to be run and waited for."""
        return self.verdicts, self.states, self.tenants

    def verdict(self, key: str) -> StoredVerdict | None:
        """The verdict under `key`, however old."""
        entry = self.verdicts.get(key)
        verdict = _decoded(entry, contracts.VERDICT)
        return None if entry is None or verdict is None else StoredVerdict(verdict, entry.revision)

    def state(self, key: str) -> ScanState | None:
        """The scan state under `key`, however old."""
        return _decoded(self.states.get(key), contracts.SCAN_STATE)

    def tenant(self, tenant: str) -> TenantRecord | None:
        """Which bundles are in force for `tenant`."""
        entry = self.tenants.get(tenant)
        if entry is None:
            self._tenant_records.pop(tenant, None)
            return None
        known = self._tenant_records.get(tenant)
        if known is None or known[0] is not entry:
            known = self._tenant_records[tenant] = entry, _decoded(entry, contracts.TENANT_RECORD)
        return known[1]

    def count_states(self, kind: type[ScanPending | ScanError]) -> int:
        """How many there are of this kind, lapsed errors that are still remembered too.

        By the type in front of each, without decoding: a scrape must not hold up admissions.
        """
        mark = f'"type":"{kind.type_name()}"'.encode()
        entries = (self.states.get(key) for key in self.states)
        return sum(entry is not None and entry.value.startswith(mark, 1) for entry in entries)

    def tenants_away(self) -> int:
        """How many tenants' Anchore does not answer."""
        records = (self.tenant(name) for name in self.tenants)
        return sum(record is not None and record.away_since is not None for record in records)

    @contextmanager
    def watching(self, keys: list[str], event: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """An event (`event`, or a new one) that is set whenever one of `keys` changes; clear it to wait again."""
        event = event or asyncio.Event()
        for key in keys:
            self._waiting[key].add(event)
        try:
            yield event
        finally:
            for key in keys:
                self._waiting[key].discard(event)
                if not self._waiting[key]:
                    del self._waiting[key]

    def _wake(self, key: str | None) -> None:
        keys = list(self._waiting) if key is None else [key]
        for each in keys:
            for event in self._waiting.get(each, ()):
                event.set()


class VerdictBuckets:
    """The scanner's reads and writes."""

    def __init__(self, broker: Broker) -> None:
        self._verdicts = Bucket(broker, subjects.VERDICTS)
        self._states = Bucket(broker, subjects.SCAN_STATES)
        self._tenants = Bucket(broker, subjects.TENANTS)

    async def verdict(self, key: str) -> tuple[Verdict | None, int]:
        """The verdict (None: missing, expired or unreadable) and the revision to write over."""
        entry = await self._verdicts.get(key)
        return _decoded(entry, contracts.VERDICT), entry.revision

    async def state(self, key: str) -> tuple[ScanState | None, int]:
        """The scan state, also a lapsed one, and the revision to write over."""
        entry = await self._states.get(key)
        return _decoded(entry, contracts.SCAN_STATE), entry.revision

    async def put_verdict(self, key: str, verdict: Verdict, now: datetime, over: int) -> int:
        """Write a verdict over the revision read before. Raises `Conflict` when somebody was faster."""
        ttl = (verdict.known_until - now).total_seconds()
        return await self._verdicts.put(key, contracts.encode(verdict), ttl=ttl, over=over)

    async def put_state(self, key: str, state: ScanState, now: datetime, over: int | None = None) -> int:
        """Write a scan state; pending lives past its next look, an error is remembered a while longer.

        Gives the new revision. `over`: only if this is still the revision. Raises `Conflict` when it is not.
        """
        if isinstance(state, contracts.ScanPending):
            delay = (state.next_look - now).total_seconds()
            ttl = max(2 * delay, delay + LATE_LOOK, BEGUN_MEMORY if state.begun else 0.0)
        else:
            memory = ABANDONED_MEMORY if state.begun else STATE_MEMORY
            ttl = (state.until - now).total_seconds() + memory
        return await self._states.put(key, contracts.encode(state), ttl=ttl, over=over)

    async def clear_state(self, key: str) -> None:
        """The scan is over: there is a verdict now."""
        await self._states.delete(key)

    async def tenant(self, tenant: str) -> TenantRecord | None:
        """The tenant's record as last written by any scanner."""
        return _decoded(await self._tenants.get(tenant), contracts.TENANT_RECORD)

    async def forget_tenant(self, tenant: str) -> None:
        """The tenant is gone: policies that name it are broken from now on."""
        await self._tenants.delete(tenant)

    async def put_tenant(self, record: TenantRecord, ttl: float) -> None:
        """Write which bundles are in force; forgotten after `ttl` seconds without news."""
        await self._tenants.put(record.tenant, contracts.encode(record), ttl=ttl)


def _decoded(entry: Entry | None, decoder: "contracts.Decoder[contracts.M]") -> "contracts.M | None":
    """The value, or None: a value nobody can read is no verdict, and must not stop an admission."""
    if entry is None or not entry.value:
        return None
    try:
        return contracts.decode(entry.value, decoder)
    except Permanent:
        return None
