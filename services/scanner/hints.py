"""From a notice to scans: which verdicts and pending scans of ours it is about, and a request for each.

A notice says where to look and never what is there: the scan that it causes asks Anchore as any other does. It goes
by the lane of re-scans, since the lane of admissions holds the request that is put off; that one finds the verdict
when its time has come, and ends without a call. Everything is bounded: notices that wait, keys of one notice, and
by the stream scans of one key. A notice that is lost costs time only.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from services.scanner import notices
from services.scanner.anchore import Anchore
from services.scanner.failures import ScanFailed, TryAgain
from services.scanner.metrics import NotificationMetrics
from services.scanner.notices import Notice
from services.scanner.pending import PendingImages
from shared import logs
from shared.anchore import AnchoreSettings
from shared.broker import Broker
from shared.contracts import ScanPending, ScanRequest
from shared.errors import Unavailable
from shared.images import ImageReference
from shared.lifecycle import background
from shared.subjects import Lane, scan_subject
from shared.verdict_store import VerdictBuckets

MAX_WAITING = 64
"""Notices taken and not yet looked into; the sender of one more is told to come back."""

AT_ONCE = 4
"""Notices looked into at once."""

MAX_KEYS = 200
"""Keys looked up for one notice: its tags and digests, under each bundle of each tenant of the account."""

MAX_ASKED = 2
"""Digests whose tags Anchore is asked for, where a notice names no tag: `tag_update` tells the new digest and the old."""


class _Tenant(NamedTuple):
    settings: AnchoreSettings
    anchore: Anchore

    def is_of(self, account: str) -> bool:
        """A user's own account mostly has the user's name; it cannot be asked for without an administrator."""
        return account == (self.settings.account or self.settings.username)


class _Candidate(NamedTuple):
    """A key that may be one of ours."""

    tenant: str
    bundle_id: str
    image: str


class Hints:
    """The notices that wait, and the tenants they may be about."""

    def __init__(self, broker: Broker, metrics: NotificationMetrics) -> None:
        self._broker = broker
        self._metrics = metrics
        self._buckets = VerdictBuckets(broker)
        self._pending = PendingImages(broker)
        self._tenants: dict[str, _Tenant] = {}
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue(MAX_WAITING)
        self._log = logs.logger("hints")

    @contextmanager
    def tenant(self, name: str, settings: AnchoreSettings, anchore: Anchore) -> Iterator[None]:
        """While the context is open notices may be about this tenant."""
        self._tenants[name] = _Tenant(settings, anchore)
        try:
            yield
        finally:
            del self._tenants[name]

    def offer(self, notice: Notice) -> bool:
        """Take a notice to look into it soon; False where too many wait, or nobody could be asked."""
        if not self._broker.is_connected or self._waiting.full():
            return False
        self._waiting.put_nowait(notice)
        return True

    async def run(self) -> None:
        """Look into notices until cancelled."""
        async with background(self._pending.run(), *(self._look() for _ in range(AT_ONCE))):
            await asyncio.Event().wait()

    async def _look(self) -> None:
        while True:
            notice = await self._waiting.get()
            try:
                asked = await self._follow(notice)
            except Unavailable as error:
                self._metrics.notifications.labels(notice.kind, "failed").inc()
                self._log.warning("notice_lost", kind=notice.kind, error=str(error))
            else:
                self._metrics.notifications.labels(notice.kind, "asked" if asked else "not_ours").inc()
                self._log.info("notice", kind=notice.kind, account=notice.account[:100], asked=asked)

    async def _follow(self, notice: Notice) -> int:
        """Ask for every scan that the notice is about; gives their number. Raises `Unavailable`."""
        looked_up: set[_Candidate] = set()
        asked = 0
        async for candidate in self._candidates(notice):
            if candidate in looked_up:
                continue
            if len(looked_up) >= MAX_KEYS:
                self._log.warning("notice_cut", kind=notice.kind, keys=MAX_KEYS)
                break
            looked_up.add(candidate)
            asked += await self._ask(candidate)
        return asked

    async def _candidates(self, notice: Notice) -> AsyncIterator[_Candidate]:
        concerned = self._concerned(notice.account)
        for state in self._pending.of(notice.digests):
            if state.tenant in concerned:
                yield _Candidate(state.tenant, state.bundle_id, state.image)
        for name, tenant in concerned.items():
            record = await self._buckets.tenant(name)
            if record is None:
                continue
            tags = notice.tags or await self._tags(tenant.anchore, notice.digests)
            for reference in notices.references(tags, notice.digests):
                for bundle_id in record.bundles:
                    yield _Candidate(name, bundle_id, str(reference))

    def _concerned(self, account: str) -> dict[str, _Tenant]:
        """The tenants of the account; all, where it is nobody's that we know."""
        found = {name: tenant for name, tenant in self._tenants.items() if tenant.is_of(account)}
        return found or dict(self._tenants)

    async def _tags(self, anchore: Anchore, digests: tuple[str, ...]) -> tuple[ImageReference, ...]:
        """Under which tags Anchore has the digests; none where it cannot tell."""
        found: dict[ImageReference, None] = {}
        try:
            for digest in digests[:MAX_ASKED]:
                image = await anchore.image(digest)
                found |= dict.fromkeys(_references(image.tags) if image else ())
        except (ScanFailed, TryAgain, Unavailable) as error:
            self._log.warning("tags_not_read", error=str(error))
        return tuple(found)[: notices.MAX_NAMED]

    async def _ask(self, candidate: _Candidate) -> bool:
        """Ask for a scan where there is something that it could change; a request that waits already is as good."""
        request = ScanRequest(
            tenant=candidate.tenant,
            image=candidate.image,
            bundle_id=candidate.bundle_id,
            asked_at=datetime.now(UTC),
            asked_by=self._broker.source,
        )
        verdict, revision = await self._buckets.verdict(request.key)
        if verdict is not None:
            request = msgspec.structs.replace(request, seen=revision)
        elif not isinstance((await self._buckets.state(request.key))[0], ScanPending):
            return False
        subject = scan_subject(Lane.RESCAN, candidate.tenant, request.key)
        await self._broker.publish_unless_waiting(subject, request)
        return True


def _references(tags: frozenset[str]) -> Iterator[ImageReference]:
    for tag in sorted(tags):
        if reference := notices.reference(tag):
            yield reference
