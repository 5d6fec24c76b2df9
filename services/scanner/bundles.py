"""Which bundles are in force for a tenant: read from Anchore every 30 s, kept in the tenants' bucket.

Who asks for a verdict resolves "no bundle named" by this record, and a verdict of another content hash
is stale: so a bundle switched or edited in Anchore is in force everywhere within a minute. A verdict is
labelled with the content that was evaluated where the answer tells it, else with the hash read *before*:
an edit in between makes it stale, never fresh.

Several scanners of a tenant take turns: who finds that another has written since goes by that record and
asks Anchore nothing. Whether Anchore answers is seen here too, for this goes on asking while scans do not.
"""

import asyncio
import contextlib
import hashlib
import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from services.scanner.anchore import Anchore, Bundle
from services.scanner.breaker import Breaker
from services.scanner.failures import ScanFailed, TryAgain
from services.scanner.health import Health
from shared import logs
from shared.contracts import ErrorClass, TenantRecord
from shared.errors import MoorgateError, Unavailable
from shared.verdict_store import VerdictBuckets

INTERVAL = 30.0
"""Seconds between two looks: with the mirrors' delay well within the minute that is promised."""

STAGGER = 5.0
"""Seconds by which scanners' looks differ: the second to look finds what the first has written."""

GLANCE = 4.0
"""Seconds between two glances at what another may have written: how old that is, no clock of his need tell."""

ALARM_PAUSE = 10.0
"""Seconds between two looks that alarms cause, or the want of an active bundle: six a minute are enough to ask
of anybody."""

SHORTEST_LIFE = 10 * INTERVAL
"""Seconds the record lives at least: without it nobody can name a bundle, however short verdicts are known."""

_ADDED_BY_ANCHORE = frozenset({"active", "last_updated"})


class Bundles:
    """One tenant's bundles, and whether its Anchore answers."""

    def __init__(
        self,
        tenant: str,
        anchore: Anchore,
        buckets: VerdictBuckets,
        breaker: Breaker,
        health: Health,
        *,
        ttl: float,
        chosen: str | None = None,
    ) -> None:
        """`ttl`: seconds the record outlives the last scanner. `chosen`: the tenant's bundle, whichever is active."""
        self._tenant = tenant
        self._anchore = anchore
        self._buckets = buckets
        self._breaker = breaker
        self._health = health
        self._chosen = chosen
        self._ttl = max(ttl, SHORTEST_LIFE)
        self._record: TenantRecord | None = None
        self._due_at = 0.0
        """When the record is to be read again, by the loop's clock."""
        self.is_keeper = False
        """This process has read the record last: it speaks for the tenant."""
        self._comparable: set[str] = set()
        self._first_look = asyncio.Lock()
        self._alarm = asyncio.Event()
        self._log = logs.logger("bundles").bind(tenant=tenant)

    async def content_hash(self, bundle_id: str) -> str:
        """Hash of the bundle's content as last read; empty for a bundle that was not there then.

        Raises `ScanFailed`, `TryAgain`, `Unavailable` when nothing has been read yet and cannot be now.
        """
        async with self._first_look:
            if self._record is None:
                self._breaker.must_be_closed()
                await self._read()
        return self._record.bundles.get(bundle_id, "") if self._record else ""

    def hash_of_evaluated(self, bundle_id: str, content: Mapping[str, Any] | None, before: str) -> str:
        """The label of a verdict: the hash of what was evaluated, if that can be told, else the one read `before`.

        An evaluation's own copy counts only once it has been seen to equal the listed one: whether the two
        are written alike is Anchore's business, and a hash that never matches would make every verdict stale.
        """
        if not content:
            return before
        evaluated = hash_of(content)
        if evaluated == before:
            self._comparable.add(bundle_id)
            return before
        self.look_soon()
        return evaluated if bundle_id in self._comparable else before

    async def run(self) -> None:
        """Keep the record until cancelled."""
        is_alarmed = False
        while True:
            pause = await self._look(is_regular=not is_alarmed)
            if self._breaker.is_open:  # an alarm would say nothing new
                await asyncio.sleep(pause)
                self._alarm.clear()
                is_alarmed = False
                continue
            if is_alarmed:
                await asyncio.sleep(ALARM_PAUSE)
                pause = self._until_next()
            is_alarmed = await self._wait_for_alarm(pause)

    def look_soon(self) -> None:
        """A scan met no answer, or another content: what is true should be known before the next regular look."""
        self._alarm.set()

    async def _wait_for_alarm(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._alarm.wait(), seconds)
        is_alarmed = self._alarm.is_set()
        self._alarm.clear()
        return is_alarmed

    async def _look(self, *, is_regular: bool) -> float:
        """Read what there is to read; gives the seconds until the next look."""
        in_doubt = self._breaker.is_open or not is_regular
        try:
            if not in_doubt and await self._is_anothers_turn():
                return self._until_next()
            await self._read()
            await self._health.look(in_doubt=in_doubt)
        except MoorgateError as error:
            return await self._failed(error)
        if self._breaker.is_open:
            self._log.info("anchore_answers")
        self._breaker.close()
        return self._until_next()

    async def _failed(self, error: MoorgateError) -> float:
        """What no answer means, or one that is none; gives the seconds until the next look."""
        self._log.warning("bundles_not_read", error=str(error))
        if isinstance(error, Unavailable) and error.neighbour != "anchore":
            return self._breaker.next_pause()
        if isinstance(error, (Unavailable, TryAgain)):
            self._breaker.open(str(error))
        elif isinstance(error, ScanFailed) and error.error is ErrorClass.ANCHORE_UNAUTHORIZED:
            self._let_scans_say_so()
        await self._note_away()
        return self._breaker.next_pause()

    def _let_scans_say_so(self) -> None:
        """Whoever refuses our credentials is there again: waiting would help nobody."""
        if self._breaker.is_open:
            self._breaker.close()

    async def _is_anothers_turn(self) -> bool:
        """Whether a scanner has read within the interval, this one or another: then that record is ours."""
        record = await self._buckets.tenant(self._tenant)
        if record is None or record.away_since or self._record is None:
            return False
        if record.read_at != self._record.read_at:
            self._adopt(record)
            self.is_keeper = False
        return self._until_due() > 0

    def _until_next(self) -> float:
        """Seconds until the next look or glance."""
        return min(GLANCE, max(0.0, self._until_due()))

    def _until_due(self) -> float:
        """Seconds until the record is to be read again."""
        return self._due_at - asyncio.get_running_loop().time()

    async def _read(self) -> None:
        """Read and write once. Raises `ScanFailed`, `TryAgain`, `Unavailable`, `Permanent`."""
        found = await self._anchore.bundles()
        active = next((each.bundle_id for each in found if each.is_active), None)
        record = TenantRecord(
            tenant=self._tenant,
            active_bundle_id=self._chosen or active,
            bundles={each.bundle_id: content_hash(each) for each in found},
            read_at=datetime.now(UTC),
        )
        await self._buckets.put_tenant(record, self._ttl)
        self._adopt(record)
        self.is_keeper = True

    def _adopt(self, record: TenantRecord) -> None:
        if self._record is None or record.bundles != self._record.bundles:
            self._log.info("bundles_read", active=record.active_bundle_id, bundles=len(record.bundles))
            self._comparable.clear()
        self._record = record
        pause = INTERVAL + random.uniform(0, STAGGER)  # noqa: S311  no secret
        if record.active_bundle_id is None:  # a new Anchore: until one is active nothing can be judged
            pause = ALARM_PAUSE
        self._due_at = asyncio.get_running_loop().time() + pause

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
        is_ours = self._record is not None and record.read_at <= self._record.read_at
        return not is_ours and datetime.now(UTC) - record.read_at < 2 * timedelta(seconds=INTERVAL)


def content_hash(bundle: Bundle) -> str:
    """Hash of what the bundle says."""
    return hash_of(bundle.content)


def hash_of(content: Mapping[str, Any]) -> str:
    """Hash without what Anchore adds when a bundle is activated or stored again."""
    kept = {name: value for name, value in content.items() if name not in _ADDED_BY_ANCHORE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
