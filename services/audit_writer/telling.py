"""A flip as an event for other tools and for notifications: one for all workloads of a release. Pure."""

from collections.abc import Sequence
from datetime import datetime

from services.audit_writer.running import Workload
from services.audit_writer.turns import Flip
from shared.contracts import MAX_REASONS, MAX_WORKLOADS, AffectedWorkload, VerdictFlipped


def event_of(flip: Flip, identity: str, workloads: Sequence[Workload], now: datetime) -> VerdictFlipped:
    """The event; `workloads` are those of one release that flip, at least one."""
    first, judgement, verdict = workloads[0], flip.sight.judgement, flip.sight.verdict
    affected = sorted((each.owner.kind, each.owner.name, each.audit) for each in workloads)
    return VerdictFlipped(
        id=identity,
        flipped_at=now,
        tenant=judgement.tenant,
        image=judgement.reference,
        digest=verdict.digest,
        bundle_id=judgement.bundle_id,
        bundle_hash=verdict.bundle_hash,
        policy=judgement.policy,
        revision=flip.sight.stored.revision,
        result=verdict.result,
        cause=flip.cause,
        namespace=first.namespace,
        release=first.release,
        fake_release=first.fake_release,
        workloads=tuple(
            AffectedWorkload(kind=kind, name=name, audit=audit)
            for kind, name, audit in affected[:MAX_WORKLOADS]
        ),
        workloads_total=len(affected),
        new_reasons=flip.new_reasons[:MAX_REASONS],
        reasons_total=verdict.reasons_total,
        failing_since=verdict.failing_since,
    )
