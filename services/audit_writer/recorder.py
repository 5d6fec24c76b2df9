"""A decision becomes part of an Audit: find whose, fold it in, say when to look again.

`record()` is what the consumer calls for each delivery; it returns when the Audit says what was decided. It
writes once with what is known; where the owner may still appear it asks for the delivery again: the stream
is the durable timer. How many decisions become one write is the work of folds.py.
"""

import re
from datetime import UTC, datetime
from typing import Protocol

from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.cluster import NamespaceGone
from services.audit_writer.folds import Folds
from services.audit_writer.metrics import AuditWriterMetrics
from shared import logs
from shared.consumer import Delivery
from shared.contracts import Action, AdmissionDecided
from shared.errors import Permanent, Retryable

OWNER_PATIENCE = 60.0
"""Seconds after the decision in which an owner may still appear: a later webhook may have refused the Pod."""

OWNER_LOOKS = 12
"""Looks for an owner, whatever the clocks of gateway and audit-writer say."""

FIRST_LOOK, LONGEST_WAIT = 0.5, 16.0
"""Seconds between two looks for an owner: doubled each time, between these."""

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


class Standings(Protocol):
    """Who can tell whose Audit it is."""

    async def standing(self, decision: AdmissionDecided) -> Standing:
        """Where the decision is recorded, and who owns that."""


class Recorder:
    """Writes decisions into Audits."""

    def __init__(self, folds: Folds, owners: Standings, metrics: AuditWriterMetrics) -> None:
        self._folds = folds
        self._owners = owners
        self._metrics = metrics
        self._log = logs.logger("recorder")

    async def record(self, decision: AdmissionDecided, delivery: Delivery) -> None:
        """Record one decision; doing it again changes nothing.

        Raises `Retryable` to be called again, `Unavailable` while the API server is away, `Permanent`.
        """
        if decision.action is Action.DEFERRED:
            return  # an event and a metric, never an Audit
        if not _NAMESPACE.fullmatch(decision.namespace):
            raise Permanent(f"{decision.namespace!r} is no namespace")
        with logs.bind(decision=decision.id, namespace=decision.namespace, pod=decision.pod_name):
            try:
                await self._record(decision, delivery)
            except NamespaceGone as error:
                self._log.info("namespace_gone", error=str(error), then="nothing is recorded")

    async def _record(self, decision: AdmissionDecided, delivery: Delivery) -> None:
        standing = await self._owners.standing(decision)
        wait = 0.0 if standing.is_final else _wait_for_owner(decision, delivery)
        if wait and (standing.doubt or standing.is_attempt):  # written once it is known where it belongs
            raise Retryable("the owner may still appear", delay=wait)
        if standing.doubt:
            self._log.warning("owner_unverified", reason=standing.doubt.reason, why=standing.doubt.message)
        if await self._folds.fold(audit_of(decision, standing)):
            self._metrics.audit_lag.observe(max(0.0, _age(decision)))
        if wait:
            raise Retryable("the Pod is not there yet", delay=wait)


def _wait_for_owner(decision: AdmissionDecided, delivery: Delivery) -> float:
    """Seconds until the owner is looked for again; 0: no more."""
    left = OWNER_PATIENCE - _age(decision)
    if left <= 0 or delivery.number >= OWNER_LOOKS:
        return 0.0
    wait = min(FIRST_LOOK * 2.0 ** (delivery.number - 1), LONGEST_WAIT)
    return max(min(wait, left), FIRST_LOOK)


def _age(decision: AdmissionDecided) -> float:
    return (datetime.now(UTC) - decision.decided_at).total_seconds()
