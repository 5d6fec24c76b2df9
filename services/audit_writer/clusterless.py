"""What an audit-writer does without a cluster: records, and completes what was let in before its verdict was known.

Nothing is known to run: no inventory, no re-scans, no flips, nobody to notify. A decision whose record awaits a verdict is
not acknowledged but put off, again and again for a day: the stream is its memory, and whoever gets it after a kill
writes the record anew and completes it. Of the decisions in one Audit only the one that it shows is put off.
"""

from collections import OrderedDict
from datetime import UTC, datetime, timedelta

from services.audit_writer import completions
from services.audit_writer.flips import revised
from services.audit_writer.folds import Folds
from services.audit_writer.lines import AuditLines, OwnersByClaim
from services.audit_writer.recorder import Recorder
from services.audit_writer.sights import Sight, is_counted
from shared import logs
from shared.consumer import Delivery
from shared.contracts import Action, AdmissionDecided
from shared.crds import Audit
from shared.errors import Retryable
from shared.verdict_store import VerdictMirror

FIRST_LOOK, LONGEST_WAIT = 1.0, 60.0
"""Seconds until a verdict is looked for again: half the decision's age, between these."""

MAX_PUT_OFF = 10_000
"""Decisions put off at once: half of what the durable bears, which delivers nothing more beyond that."""

FORGOTTEN = timedelta(seconds=3 * LONGEST_WAIT)
"""After so long one that was put off is not ours any more."""


class CompletingRecorder:
    """Records a decision, and is asked again until its record is complete."""

    def __init__(
        self,
        recorder: Recorder,
        folds: Folds,
        lines: AuditLines,
        owners: OwnersByClaim,
        mirror: VerdictMirror,
    ) -> None:
        self._recorder = recorder
        self._folds = folds
        self._lines = lines
        self._owners = owners
        self._mirror = mirror
        self._log = logs.logger("clusterless")
        self._put_off: OrderedDict[str, datetime] = OrderedDict()
        """When each was put off last, the longest ago first."""

    async def record(self, decision: AdmissionDecided, delivery: Delivery) -> None:
        """As `Recorder.record`; raises `Retryable` also while a verdict is missing."""
        await self._recorder.record(decision, delivery)
        self._put_off.pop(decision.id, None)
        if decision.action is not Action.ALLOWED:
            return
        name = (await self._owners.standing(decision)).name
        now = datetime.now(UTC)
        await self._folds.change(decision.namespace, name, lambda audit: self._completed(audit, now))
        stored = await self._lines.audit(decision.namespace, name)
        if stored and stored.audit and self._is_put_off(decision, stored.audit, now):
            self._put_off[decision.id] = now
            age = (now - decision.decided_at).total_seconds()
            raise Retryable("a verdict is still to come", delay=min(max(age / 2, FIRST_LOOK), LONGEST_WAIT))

    def _is_put_off(self, decision: AdmissionDecided, audit: Audit, now: datetime) -> bool:
        """Whether this is the decision that the record shows, and the record awaits a verdict."""
        shown = audit.status.decision
        if (shown.at, shown.id) != (decision.decided_at, decision.id):
            return False
        is_awaited = completions.is_open(audit) and completions.is_asked_for(audit, now)
        return is_awaited and self._has_room(now)

    def _has_room(self, now: datetime) -> bool:
        """Without those that another replica has got meanwhile, or the stream has dropped."""
        while self._put_off and now - next(iter(self._put_off.values())) > FORGOTTEN:
            self._put_off.popitem(last=False)
        if len(self._put_off) < MAX_PUT_OFF:
            return True
        self._log.warning("records_stay_incomplete", put_off=len(self._put_off))
        return False

    def _completed(self, audit: Audit, now: datetime) -> Audit | None:
        sights: dict[str, Sight] = {}
        for written, judgement in completions.awaited(audit, self._mirror.tenant).items():
            stored = self._mirror.verdict(judgement.key)
            if stored and is_counted(stored, judgement) and now < stored.verdict.known_until:
                sights[written] = Sight(judgement=judgement, stored=stored, is_running=False)
        return revised(audit, sights, {}, now) if sights else None
