"""What was decided before a verdict was known: by which verdict the record is completed, and how long it is asked for.

An image that was let in by its mode, the whitelist or `onPending` is recorded without a verdict. What runs is judged by
the policy now in force, like all that runs, and asked for with it. What does not run any more, or not yet, is completed
by the verdict that its decision was about, and that is asked for only for a day: then nobody may ever answer, and the
record's label goes on saying that it is not complete. Pure: values in, values out.
"""

from datetime import datetime, timedelta

from services.audit_writer.judgements import Judgement
from services.audit_writer.summary import is_complete
from shared import images
from shared.contracts import Mode, Outcome
from shared.crds import Audit, AuditImage
from shared.errors import BadImage
from shared.policies import Tenants

PATIENCE = timedelta(hours=24)
"""After the decision; by then an analysis is through, or nobody works on it."""

_OPEN = frozenset({Outcome.PENDING.value, Outcome.ERROR.value})


def awaited(audit: Audit, tenants: Tenants) -> dict[str, Judgement]:
    """By image as written: the verdicts that would complete the record of what does not run."""
    if is_complete(audit):
        return {}
    found = {image.image: _judgement(image, tenants) for image in audit.spec.images if image.verdict in _OPEN}
    return {image: judgement for image, judgement in found.items() if judgement}


def is_open(audit: Audit) -> bool:
    """Whether a verdict may complete the record some day; of what is no reference none ever will."""
    return not is_complete(audit) and any(
        image.tenant and image.verdict in _OPEN and _is_reference(image.image) for image in audit.spec.images
    )


def is_asked_for(audit: Audit, now: datetime) -> bool:
    """Whether the missing verdicts are still worth a scan."""
    return now < audit.status.decision.at + PATIENCE


def _judgement(image: AuditImage, tenants: Tenants) -> Judgement | None:
    """By what the decision was to be taken; None: nobody knows yet, or the image is no reference.

    A decision that no bundle was known for is about the tenant's active one: it was taken before there was any.
    """
    record = tenants(image.tenant) if image.tenant else None
    bundle_id = image.bundle or (record.active_bundle_id if record else None)
    if record is None or not bundle_id:
        return None
    if not _is_reference(image.image):
        return None
    return Judgement(
        tenant=image.tenant,
        bundle_id=bundle_id,
        bundle_hash=record.bundles.get(bundle_id),
        reference=str(images.parse(image.image)),
        mode=Mode.AUDIT,
        policy=image.policy or None,
    )


def _is_reference(image: str) -> bool:
    try:
        images.parse(image)
    except BadImage:
        return False
    return True
