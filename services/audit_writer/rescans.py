"""Everything that runs is scanned again once an interval, and at once where no verdict counts for it.

One request a key, however many workloads share it; in the lane of re-scans, which delays no admission. What is
missing (a bundle was switched, edited, the bucket was lost, something ran before Moorgate) is asked for in the
order of how widely it runs, at a rate that Anchore bears. The stream refuses what waits there already.

Nothing is remembered that matters: when a key is due follows from itself and its verdict (schedule.py).
"""

import asyncio
import heapq
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from services.audit_writer.judgements import Judgement
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.outlook import Outlook, request
from services.audit_writer.schedule import last_moment, look
from shared import logs
from shared.broker import Broker
from shared.errors import MoorgateError
from shared.subjects import Lane, scan_subject

RATE = 20.0
"""Requests a second at most: 72,000 an hour, what a large cluster runs, and Anchore answers admissions meanwhile."""

ASK_AGAIN = timedelta(minutes=5)
"""After a request that nothing came of: an error state's longest life."""

ADMISSIONS_TURN = timedelta(seconds=5)
"""After a decision without a verdict, until its image is looked at: the gateway has asked for a scan as a rule."""

AWAY = timedelta(minutes=1)
"""Until a key is looked at again whose Anchore, or tenant, is away: nobody would take the request."""

RETRY = 5.0
"""Seconds before NATS is tried again."""

TICK, LONGEST_SLEEP = 0.01, 3600.0
"""Seconds until the next look at the agenda: a clock that is set must not hold it up for long."""

BREATH = 200
"""Keys looked at before others get their turn in this process."""


class Rescans:
    """Asks for scans of what runs."""

    def __init__(
        self,
        outlook: Outlook,
        broker: Broker,
        interval: float,
        metrics: AuditWriterMetrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`interval`: seconds in which each key has its turn."""
        self._outlook = outlook
        self._broker = broker
        self._interval = interval
        self._metrics = metrics
        self._now = now
        self._awaited: dict[str, Judgement] = {}
        self._wanted: dict[str, Judgement] = {}
        self._planned: dict[str, datetime] = {}
        self._agenda: list[tuple[datetime, int, str]] = []
        self._changed = asyncio.Event()
        self._log = logs.logger("rescans")
        outlook.on_change(self._plan)
        outlook.mirror.verdicts.on_change(self._note_verdict)

    def await_verdicts(self, awaited: Mapping[str, Judgement]) -> None:
        """These are asked for too until there is a verdict, though they do not run: by key."""
        self._awaited = dict(awaited)
        self._plan()

    def await_also(self, awaited: Mapping[str, Judgement]) -> None:
        """These too, of decisions that were taken just now."""
        self._awaited |= awaited
        at = self._now() + ADMISSIONS_TURN
        for key, judgement in awaited.items():
            if key not in self._wanted:
                self._wanted[key] = judgement
                self._put(key, at)
        self._changed.set()

    async def run(self) -> None:
        """Ask until cancelled. The work of the Lease's holder."""
        self._planned.clear()
        self._plan()
        looked = 0
        while True:
            await self._until_due()
            while (key := self._next_due()) is not None:
                looked += 1
                if await self._look(key) or looked % BREATH == 0:
                    await asyncio.sleep(0)

    def _plan(self) -> None:
        """Keep what is planned, plan what is new or judged otherwise for now, forget the rest."""
        now = self._now()
        running = self._outlook.judgements.keys
        wanted = {**self._awaited, **{key: each.judgement for key, each in running.items()}}
        self._planned = {
            key: self._planned.get(key, now) if self._wanted.get(key) == judgement else now
            for key, judgement in wanted.items()
        }
        self._wanted = wanted
        self._agenda = [self._entry(key, at) for key, at in self._planned.items()]
        heapq.heapify(self._agenda)
        self._changed.set()

    def _entry(self, key: str, at: datetime) -> tuple[datetime, int, str]:
        running = self._outlook.judgements.keys.get(key)
        return at, -running.pods if running else 0, key

    def _put(self, key: str, at: datetime) -> None:
        self._planned[key] = at
        heapq.heappush(self._agenda, self._entry(key, at))

    def _next_due(self) -> str | None:
        """Takes the key whose look is due; of those due together the most widely running."""
        while self._agenda:
            at, _, key = self._agenda[0]
            if self._planned.get(key) != at:
                heapq.heappop(self._agenda)  # planned otherwise since
                continue
            if at > self._now():
                return None
            heapq.heappop(self._agenda)
            return key
        return None

    async def _until_due(self) -> None:
        self._changed.clear()
        if self._next_is_due():
            return
        wait = (self._agenda[0][0] - self._now()).total_seconds() if self._agenda else LONGEST_SLEEP
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), min(max(wait, TICK), LONGEST_SLEEP))

    def _next_is_due(self) -> bool:
        return bool(self._agenda) and self._agenda[0][0] <= self._now()

    async def _look(self, key: str) -> bool:
        """Ask where that is called for, and plan the next look. True: time has passed."""
        judgement, mirror, now = self._wanted[key], self._outlook.mirror, self._now()
        record = mirror.tenant(judgement.tenant)
        if record is None or record.away_since:
            self._put(key, now + AWAY)
            return False
        stored = mirror.verdict(key)
        is_running = key in self._outlook.judgements.keys
        state = mirror.state(key)
        found = look(judgement, stored, state, is_running=is_running, interval=self._interval, now=now)
        if found.is_wanted:
            return await self._ask(key, judgement, stored.revision if stored else 0)
        self._put(key, max(found.again_at or now + ASK_AGAIN, now + timedelta(seconds=TICK)))
        return False

    async def _ask(self, key: str, judgement: Judgement, seen: int) -> bool:
        now = self._now()
        moment = last_moment(key, self._interval, now) + timedelta(seconds=self._interval)
        self._put(key, max(min(now + ASK_AGAIN, moment), now + timedelta(seconds=TICK)))
        wanted = request(judgement, seen, now, self._broker.source)
        try:
            if await self._broker.publish_unless_waiting(
                scan_subject(Lane.RESCAN, wanted.tenant, key), wanted
            ):
                self._metrics.scan_requests.labels(Lane.RESCAN.value).inc()
        except MoorgateError as error:
            self._log.warning("rescan_not_requested", key=key, error=str(error), again_in=RETRY)
            self._put(key, now)
            await asyncio.sleep(RETRY)
        else:
            await asyncio.sleep(1 / RATE)
        return True

    def _note_verdict(self, key: str | None) -> None:
        """A verdict that is gone is missed at once; where anything may have changed, all are looked at."""
        if key is None:
            self._planned.clear()
            self._plan()
        elif key in self._planned and self._outlook.mirror.verdicts.get(key) is None:
            self._put(key, self._now())
            self._changed.set()
