"""Which bundles are in force for a tenant: read from Anchore every 30 s, kept in the tenants' bucket.

Who asks for a verdict resolves "no bundle named" by this record, and a verdict of another content hash
is stale: so a bundle switched or edited in Anchore is in force everywhere within a minute. A verdict is
labelled with the hash read *before* its evaluation: an edit in between makes it stale, never fresh.
"""

import asyncio
import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta

import msgspec

from services.scanner.anchore_api import PolicyRecord
from services.scanner.anchore_v1 import AnchoreV1
from services.scanner.failures import ScanFailed, TryAgain
from shared import logs
from shared.contracts import TenantRecord
from shared.errors import MoorgateError, Unavailable
from shared.verdict_store import VerdictBuckets

INTERVAL = 30.0
"""Seconds between two looks: with the mirrors' delay well within the minute that is promised."""

RETRY = 2.0
"""Seconds before the next try while Anchore does not answer: without a record nothing can be decided."""

SHORTEST_LIFE = 10 * INTERVAL
"""Seconds the record lives at least: without it nobody can name a bundle, however short verdicts are known."""

_ADDED_BY_ANCHORE = frozenset({"active", "last_updated"})


class Bundles:
    """One tenant's bundles."""

    def __init__(self, tenant: str, anchore: AnchoreV1, buckets: VerdictBuckets, ttl: float) -> None:
        """`ttl`: seconds the record outlives the last scanner, at least `SHORTEST_LIFE`."""
        self._tenant = tenant
        self._anchore = anchore
        self._buckets = buckets
        self._ttl = max(ttl, SHORTEST_LIFE)
        self._hashes: dict[str, str] | None = None
        self._read_at: datetime | None = None
        self._alarm = asyncio.Event()
        self._log = logs.logger("bundles").bind(tenant=tenant)

    async def content_hash(self, bundle_id: str) -> str:
        """Hash of the bundle's content as last read; empty for a bundle that was not there then.

        Raises `ScanFailed`, `TryAgain`, `Unavailable` when nothing has been read yet and cannot be now.
        """
        if self._hashes is None:
            await self.refresh()
        return (self._hashes or {}).get(bundle_id, "")

    async def run(self) -> None:
        """Keep the record until cancelled."""
        while True:
            self._alarm.clear()
            try:
                await self.refresh()
                pause = INTERVAL
            except MoorgateError as error:
                self._log.warning("bundles_not_read", error=str(error))
                await self._note_away()
                pause = RETRY
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._alarm.wait(), pause)
                await asyncio.sleep(RETRY)  # an alarm a second must not become a look a second

    def look_soon(self) -> None:
        """A scan met no answer: whether Anchore is away should be known before the next regular look."""
        self._alarm.set()

    async def refresh(self) -> None:
        """Read and write once. Raises `ScanFailed`, `TryAgain`, `Unavailable`, `Permanent`."""
        found = await self._anchore.bundles()
        record = TenantRecord(
            tenant=self._tenant,
            active_bundle_id=next((each.policy_id for each in found if each.active), None),
            bundles={each.policy_id: content_hash(each) for each in found},
            read_at=datetime.now(UTC),
        )
        if record.bundles != self._hashes:
            self._log.info("bundles_read", active=record.active_bundle_id, bundles=len(found))
        await self._buckets.put_tenant(record, self._ttl)
        self._hashes, self._read_at = record.bundles, record.read_at

    async def _note_away(self) -> None:
        """Say in the record that nobody can be asked, unless another scanner has read it since."""
        try:
            record = await self._buckets.tenant(self._tenant)
            if record is None or record.away_since or self._is_read_by_another(record):
                return
            away = msgspec.structs.replace(record, away_since=datetime.now(UTC))
            await self._buckets.put_tenant(away, self._ttl)
            self._log.warning("anchore_away", then="stale passes count, unknown images go by onError")
        except Unavailable as error:
            self._log.warning("away_not_noted", error=str(error))

    def _is_read_by_another(self, record: TenantRecord) -> bool:
        is_ours = self._read_at is not None and record.read_at <= self._read_at
        return not is_ours and datetime.now(UTC) - record.read_at < 2 * timedelta(seconds=INTERVAL)

    async def probe(self) -> bool:
        """Whether Anchore answers a real question again."""
        try:
            await self._anchore.bundles()
        except (ScanFailed, TryAgain, Unavailable):
            return False
        return True


def content_hash(record: PolicyRecord) -> str:
    """Hash of what the bundle says, without what Anchore adds when it is activated or stored again."""
    content = {
        name: value for name, value in (record.policybundle or {}).items() if name not in _ADDED_BY_ANCHORE
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
