"""Everything that judges what runs, put together: the newest inventory, policies, whitelist, tenants and verdicts.

It is the leader's: the copies are kept while it leads, and nobody else needs the memory. The judgements are made
anew when an inventory, a policy or a tenant's bundles have changed, and those who go by them are told. The
whitelist and the verdicts are looked up at the moment they are asked for.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from services.audit_writer import completions
from services.audit_writer.judgements import NOTHING, Judgement, Judgements, WorkloadId, judge
from services.audit_writer.running import Running, Workload
from services.audit_writer.sights import Sight, is_counted
from shared import contracts
from shared.crds import Audit
from shared.image_policies import PolicyFeed
from shared.releases import Release
from shared.verdict_store import VerdictMirror
from shared.whitelist import Whitelist, covers_image

UNDER_WAY = timedelta(seconds=10)
"""From a decision until an inventory sees its Pod: it is stored after the last webhook has answered."""

SETTLE = 0.2
"""Seconds in which changes are taken together: each makes all judgements anew."""


class Outlook:
    """What is true now of what runs."""

    def __init__(
        self, running: Running, mirror: VerdictMirror, policies: PolicyFeed, whitelist: Whitelist
    ) -> None:
        self.judgements: Judgements = NOTHING
        self.mirror = mirror
        self._running = running
        self._policies = policies
        self._whitelist = whitelist
        self._releases: dict[tuple[str, str], list[Workload]] = {}
        self._changed = asyncio.Event()
        self._tenants: object = None
        self._on_change: list[Callable[[], None]] = []
        running.on_change(self._changed.set)
        mirror.tenants.on_change(self._note_tenants)

    def on_change(self, call: Callable[[], None]) -> None:
        """Call `call` after each change of what judges."""
        self._on_change.append(call)

    async def run(self) -> None:
        """Keep the judgements right until cancelled."""
        self._changed.set()
        while True:
            await self._until_changed()
            await asyncio.sleep(SETTLE)
            self._changed.clear()
            self._policies.changed.clear()
            self.refresh()

    def refresh(self) -> None:
        """Make the judgements anew, and tell."""
        snapshot = self._running.snapshot
        releases: dict[tuple[str, str], list[Workload]] = defaultdict(list)
        for workload in snapshot.workloads.values() if snapshot else ():
            releases[workload.namespace, workload.release].append(workload)
        self._releases = releases
        self.judgements = judge(snapshot, self._policies.rules, self.mirror.tenant) if snapshot else NOTHING
        for call in self._on_change:
            call()

    def workload(self, namespace: str, audit: str) -> Workload | None:
        """What runs under the Audit's name."""
        snapshot = self._running.snapshot
        return snapshot.workloads.get((namespace, audit)) if snapshot else None

    def release(self, namespace: str, release: str) -> list[Workload]:
        """All workloads of a release."""
        return self._releases.get((namespace, release), [])

    def release_of(self, where: WorkloadId) -> tuple[str, str] | None:
        """Namespace and release of a workload that runs."""
        workload = self.workload(*where)
        return (workload.namespace, workload.release) if workload else None

    def may_run_unseen(self, audit: Audit) -> bool:
        """Whether what was decided may have begun to run since the last inventory."""
        snapshot = self._running.snapshot
        if self.workload(audit.metadata.namespace, audit.metadata.name):
            return False
        return snapshot is None or snapshot.taken_at < audit.status.decision.at + UNDER_WAY

    def sights(self, audit: Audit) -> dict[str, Sight]:
        """What is to be seen of the Audit's images, by image as written; nothing where no verdict counts."""
        workload = self.workload(audit.metadata.namespace, audit.metadata.name)
        found: dict[str, Sight] = {}
        for written, awaited in completions.awaited(audit, self.mirror.tenant).items():
            self._add(found, written, awaited, None)
        for image in workload.images if workload else ():
            found.pop(image.image, None)
            if judged := self.judgements.of(audit.metadata.namespace, image.image):
                self._add(found, image.image, judged, workload)
        return found

    def _add(
        self, found: dict[str, Sight], image: str, judgement: Judgement, workload: Workload | None
    ) -> None:
        stored = self.mirror.verdict(judgement.key)
        now = datetime.now(UTC)
        if stored is None or not is_counted(stored, judgement) or now >= stored.verdict.known_until:
            return
        images = [each for each in workload.images if each.image == image] if workload else []
        found[image] = Sight(
            judgement=judgement,
            stored=stored,
            digests=frozenset(digest for each in images for digest in each.digests),
            is_running=workload is not None,
            whitelist_item=self._whitelist_item(workload, judgement.reference, image, now)
            if workload
            else "",
        )

    def _whitelist_item(self, workload: Workload, reference: str, written: str, now: datetime) -> str:
        release = Release(
            name=workload.release_matched, is_fake=workload.fake_release, recorded=workload.release
        )
        items = self._whitelist.covering(release, workload.namespace, now)
        return next((each.metadata.name for each in items if covers_image(each, reference, written)), "")

    async def _until_changed(self) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(each.wait()) for each in (self._changed, self._policies.changed)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for each in waits:
                each.cancel()

    def _note_tenants(self, _: str | None) -> None:
        """Records are written anew every half minute: only another bundle, or another content, is a change."""
        records = [self.mirror.tenant(each) for each in sorted(self.mirror.tenants)]
        said = [(each.tenant, each.active_bundle_id, each.bundles) for each in records if each]
        if said != self._tenants:
            self._tenants = said
            self._changed.set()


def request(judgement: Judgement, seen: int, now: datetime, by: str) -> contracts.ScanRequest:
    """A scan of what is judged so."""
    return contracts.ScanRequest(
        tenant=judgement.tenant,
        image=judgement.reference,
        bundle_id=judgement.bundle_id,
        seen=seen,
        asked_at=now,
        asked_by=by,
    )
