"""Audits of what is not known to run, by the verdicts that would complete them: whom a verdict that lands concerns."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from services.audit_writer import completions
from services.audit_writer.judgements import Judgement, WorkloadId
from shared.crds import Audit
from shared.policies import Tenants


class Awaiting:
    """Who waits for which verdict. What is no longer true of it costs its reader one look at an Audit."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._by_key: dict[str, set[WorkloadId]] = defaultdict(set)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def add(self, audit: Audit, now: datetime) -> dict[str, Judgement]:
        """Note what the Audit waits for; gives, by key, what is worth asking for."""
        found = {each.key: each for each in completions.awaited(audit, self._tenants).values()}
        for key in found:
            self._by_key[key].add(_where(audit))
        return found if completions.is_asked_for(audit, now) else {}

    def drop(self, audit: Audit) -> None:
        """It waits no more, or is gone: `audit` as it was."""
        for each in completions.awaited(audit, self._tenants).values():
            waiting = self._by_key.get(each.key, set())
            waiting.discard(_where(audit))
            if not waiting:
                self._by_key.pop(each.key, None)

    def of(self, key: str) -> Sequence[WorkloadId]:
        """The Audits that wait for the verdict."""
        return sorted(self._by_key.get(key, ()))


def _where(audit: Audit) -> WorkloadId:
    return audit.metadata.namespace, audit.metadata.name
