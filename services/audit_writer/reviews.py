"""The leader compares Audits with verdicts: all after each inventory, one when it lacks a verdict or that changes.

For each release with something to do: read its Audits → what flips → the event, once → Kubernetes Events → the
Audits. In this order, so that whoever dies in between is repeated by the next leader with the same ids: the stream
takes an id once in ten minutes, and later an Audit that bears it says that it was published. What fails is tried
again, by itself and by the next inventory.

A fail that completes a record is a flip if the image was let in to run. Where it began to run since the last inventory
the record waits for the next one, which is then taken soon.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from services.audit_writer.awaiting import Awaiting
from services.audit_writer.cluster import AuditCluster, NamespaceGone
from services.audit_writer.events import Events
from services.audit_writer.flips import Sights, flips_of, is_outdated, revised, would_flip
from services.audit_writer.folds import Folds
from services.audit_writer.judgements import Judgement, WorkloadId
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.outlook import Outlook
from services.audit_writer.rescans import Rescans
from services.audit_writer.telling import event_of
from services.audit_writer.turns import Flip, FlipKey, event_id, is_told
from shared import logs, subjects
from shared.broker import Broker
from shared.crds import Audit
from shared.errors import MoorgateError

CONCURRENCY = 8
"""Releases worked on at once: each waits for the API server, one answer after another."""

RETRY = 5.0
"""Seconds before what failed is tried again."""


class Group(msgspec.Struct, frozen=True):
    """What is worked on together: the running workloads of a release, or one Audit of what does not run."""

    namespace: str
    release: str = ""
    audit: str = ""


class Reviews:
    """Brings Audits up to what the verdicts say, and tells of flips."""

    def __init__(
        self,
        *,
        outlook: Outlook,
        rescans: Rescans,
        cluster: AuditCluster,
        folds: Folds,
        events: Events,
        broker: Broker,
        metrics: AuditWriterMetrics,
        hurry: Callable[[], None],
    ) -> None:
        """`hurry`: asks for an inventory soon."""
        self._outlook = outlook
        self._rescans = rescans
        self._cluster = cluster
        self._folds = folds
        self._events = events
        self._broker = broker
        self._metrics = metrics
        self._hurry = hurry
        self._fresh: dict[WorkloadId, Audit] = {}
        """Recorded without a verdict, and not looked at yet."""
        self._urgent: dict[Group, None] = {}
        self._later: dict[Group, None] = {}
        self._awaiting = Awaiting(outlook.mirror.tenant)
        self._seen: dict[str, object] = {}
        self._is_review_due = True
        self._wake = asyncio.Event()
        self._log = logs.logger("reviews")
        outlook.on_change(self._note_change)
        outlook.mirror.verdicts.on_change(self._note_verdict)

    async def run(self) -> None:
        """Review until cancelled. The work of the Lease's holder."""
        self._note_change()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._is_review_due:
                    self._is_review_due = False
                    await self._review_all()
                self._look_at_fresh()
                await self._work_off()
            except MoorgateError as error:
                self._log.warning("review_interrupted", error=str(error), again_in=RETRY)
                self._is_review_due = True
                self._again()

    # What `Watch` tells of the Audits without a verdict.

    def replace(self, items: list[Audit]) -> None:
        """These are all there are."""
        for each in items:
            self.put(each)

    def put(self, item: Audit) -> None:
        """This one was written, or changed."""
        self._fresh[_where(item)] = item
        self._wake.set()

    def remove(self, item: Audit) -> None:
        """This one is complete, or gone."""
        self._fresh.pop(_where(item), None)
        self._awaiting.drop(item)

    def _note_change(self) -> None:
        self._is_review_due = True
        self._wake.set()

    def _note_verdict(self, key: str | None) -> None:
        """A verdict has changed; a re-scan that says the same again is no news."""
        if key is None:
            self._note_change()
        elif groups := self._groups_of(key):
            said = self._said(key)
            if said is not None and self._seen.get(key) != said:
                self._seen[key] = said
                self._urgent.update(dict.fromkeys(groups))
                self._wake.set()

    def _said(self, key: str) -> object:
        stored = self._outlook.mirror.verdict(key)
        if stored is None:
            return None
        verdict = stored.verdict
        return verdict.result, verdict.digest, verdict.bundle_hash, verdict.unchanged_since

    def _groups_of(self, key: str) -> list[Group]:
        running = self._outlook.judgements.keys.get(key)
        releases = {self._outlook.release_of(each) for each in running.workloads} if running else set()
        groups = [Group(each[0], release=each[1]) for each in sorted(filter(None, releases))]
        return groups + [Group(each[0], audit=each[1]) for each in self._awaiting.of(key)]

    async def _review_all(self) -> None:
        """Read every Audit, a page at a time, and note where there is something to do. Raises like the cluster."""
        awaiting = Awaiting(self._outlook.mirror.tenant)
        asked: dict[str, Judgement] = {}
        now = datetime.now(UTC)
        async for audit in self._cluster.all():
            if self._outlook.workload(*_where(audit)) is None:
                asked |= awaiting.add(audit, now)
            self._note_outdated(audit)
        self._awaiting = awaiting
        known = self._outlook.judgements.keys
        self._seen = {key: said for key, said in self._seen.items() if key in known or key in awaiting}
        self._rescans.await_verdicts(asked)

    def _look_at_fresh(self) -> None:
        """Await the verdicts that these lack; one may be there by now."""
        now, asked = datetime.now(UTC), dict[str, Judgement]()
        fresh, self._fresh = self._fresh, {}
        for where, audit in fresh.items():
            if self._outlook.workload(*where) is None:
                asked |= self._awaiting.add(audit, now)
            self._note_outdated(audit)
        if asked:
            self._rescans.await_also(asked)

    def _note_outdated(self, audit: Audit) -> None:
        sights = self._outlook.sights(audit)
        if not sights or not is_outdated(audit, sights):
            return
        where = _where(audit)
        release = self._outlook.release_of(where)
        group = Group(release[0], release=release[1]) if release else Group(where[0], audit=where[1])
        queue = self._urgent if flips_of(audit, sights) else self._later
        queue[group] = None

    async def _work_off(self) -> None:
        """Flips first; what fails comes back later."""
        while batch := self._take():
            await asyncio.gather(*(self._try(group) for group in batch))
            if (self._is_review_due or self._fresh) and not self._urgent:
                return

    def _take(self) -> list[Group]:
        queue = self._urgent or self._later
        batch = list(queue)[:CONCURRENCY]
        for group in batch:
            del queue[group]
            self._later.pop(group, None)
        return batch

    async def _try(self, group: Group) -> None:
        try:
            await self._bring_up(group)
        except NamespaceGone as error:
            self._log.info("namespace_gone", error=str(error))
        except MoorgateError as error:
            self._log.warning("not_brought_up", namespace=group.namespace, error=str(error), again_in=RETRY)
            self._again(group)

    def _again(self, *groups: Group) -> None:
        """Wake up in a while, with these to do."""

        def wake() -> None:
            self._urgent.update(dict.fromkeys(groups))
            self._wake.set()

        asyncio.get_running_loop().call_later(RETRY, wake)

    async def _bring_up(self, group: Group) -> None:
        """Tell of the group's flips, then write its Audits. Raises `MoorgateError`."""
        audits = await self._read(group)
        sights = {_where(audit): self._outlook.sights(audit) for audit in audits}
        if any(self._is_for_inventory(audit, sights[_where(audit)]) for audit in audits):
            self._hurry()
            return
        flips = {_where(audit): flips_of(audit, sights[_where(audit)]) for audit in audits}
        ids: dict[FlipKey, str] = {}
        for flip in {each.key: each for some in flips.values() for each in some}.values():
            ids[flip.key] = event_id(group.namespace, group.release, flip, audits)
            affected = [where for where, some in flips.items() if flip.key in {each.key for each in some}]
            await self._tell(group, flip, ids[flip.key], affected, audits)
        for where, some in flips.items():
            await self._write_events(where, some, ids)
        for audit in audits:
            await self._write(_where(audit), sights[_where(audit)], ids)

    def _is_for_inventory(self, audit: Audit, sights: Sights) -> bool:
        """Whether the record must not be completed before it is known whether that is a flip."""
        return self._outlook.may_run_unseen(audit) and would_flip(audit, sights)

    async def _read(self, group: Group) -> list[Audit]:
        names = [each.audit for each in self._outlook.release(group.namespace, group.release)]
        if group.audit:
            names = [group.audit]
        stored = [await self._cluster.audit(group.namespace, name) for name in names]
        return [each.audit for each in stored if each and each.audit]

    async def _tell(
        self, group: Group, flip: Flip, identity: str, affected: Sequence[WorkloadId], audits: Iterable[Audit]
    ) -> None:
        """The one event of a flip and release, unless an Audit says that it is out. Raises `Unavailable`."""
        if is_told(identity, audits):
            return
        workloads = [found for each in affected if (found := self._outlook.workload(*each))]
        event = event_of(flip, identity, workloads, datetime.now(UTC))
        await self._broker.publish(subjects.flip_subject(event.result), event, identity)
        self._metrics.verdict_flips.labels(event.result.value).inc()
        self._log.info(
            "verdict_flipped",
            flip=identity,
            namespace=group.namespace,
            release=group.release,
            image=event.image,
            to=event.result.value,
            cause=event.cause.value,
        )

    async def _write_events(self, where: WorkloadId, flips: Iterable[Flip], ids: dict[FlipKey, str]) -> None:
        if workload := self._outlook.workload(*where):
            for flip in flips:
                await self._events.tell(flip, ids[flip.key], workload)

    async def _write(self, where: WorkloadId, sights: Sights, ids: dict[FlipKey, str]) -> None:
        """What was decided meanwhile counts: a flip that nobody was told of leaves the Audit to the next look."""
        now = datetime.now(UTC)
        await self._folds.change(*where, lambda audit: revised(audit, sights, ids, now))


def _where(audit: Audit) -> WorkloadId:
    return audit.metadata.namespace, audit.metadata.name
