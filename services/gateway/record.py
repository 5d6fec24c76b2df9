"""The decision as an event: what the audit-writer and other tools are told."""

from datetime import datetime

import msgspec

from services.gateway.admission import AdmissionRequest
from services.gateway.decision import Decision, Judged
from services.gateway.workloads import Workload
from shared.contracts import MAX_MESSAGE_BYTES, AdmissionDecided, ImageDecision, OwnerClaim
from shared.releases import Release

MAX_REASONS = 5
"""Findings repeated for each image; the verdict bucket has them all."""

MAX_IMAGES = 250
"""Images of one Pod in the event; fewer where they would not fit a message."""

MAX_TEXT = 1024
"""Characters kept of what a user or Anchore wrote: no image reference has more."""

_ENCODER = msgspec.json.Encoder()


def decided(
    request: AdmissionRequest,
    workload: Workload,
    release: Release,
    *,
    decision: Decision,
    judged: list[Judged],
    message: str,
    now: datetime,
) -> tuple[AdmissionDecided, bytes]:
    """The event of one answered admission, and the event encoded; its id is the request's uid.

    It fits a message whatever the Pod holds: findings go first, then the images that mattered least.
    """
    event = AdmissionDecided(
        id=request.uid,
        decided_at=now,
        namespace=workload.namespace,
        pod_name=workload.name,
        pod_uid=workload.uid,
        operation=request.operation,
        sub_resource=request.sub_resource,
        action=decision.action,
        code=decision.code,
        message=message[:MAX_TEXT],
        release=release.recorded,
        fake_release=release.is_fake,
        user=request.user_info.username[:MAX_TEXT],
        owner=_claim(workload.owner) if workload.owner else None,
        images=_images(judged, decision, MAX_IMAGES, MAX_REASONS),
    )
    payload = _ENCODER.encode(event)
    return (event, payload) if len(payload) <= MAX_MESSAGE_BYTES else _shortened(event, decision, judged)


def _shortened(
    event: AdmissionDecided, decision: Decision, judged: list[Judged]
) -> tuple[AdmissionDecided, bytes]:
    """The event with as many images and findings as fit, in the Pod's order."""
    count, reasons = min(len(judged), MAX_IMAGES), MAX_REASONS
    while True:
        count, reasons = (count, reasons // 2) if reasons else (count // 2, 0)
        images = _images(judged, decision, count, reasons)
        shorter = msgspec.structs.replace(event, images=images)
        payload = _ENCODER.encode(shorter)
        if len(payload) <= MAX_MESSAGE_BYTES or (count <= 1 and not reasons):
            return shorter, payload


def _images(
    judged: list[Judged], decision: Decision, count: int, max_reasons: int
) -> tuple[ImageDecision, ...]:
    """Those that mattered most, in the Pod's order."""
    if count < len(judged):
        worst_first = sorted(range(len(judged)), key=lambda number: decision.steps[number], reverse=True)
        judged = [judged[number] for number in sorted(worst_first[:count])]
    return tuple([_image(each, max_reasons) for each in judged])


def _claim(owner: OwnerClaim) -> OwnerClaim:
    return OwnerClaim(
        api_version=owner.api_version[:MAX_TEXT],
        kind=owner.kind[:MAX_TEXT],
        name=owner.name[:MAX_TEXT],
        uid=owner.uid[:MAX_TEXT],
    )


def _image(each: Judged, max_reasons: int) -> ImageDecision:
    evidence, verdict = each.evidence, each.evidence.verdict
    return ImageDecision(
        container=each.image.container[:MAX_TEXT],
        container_kind=each.image.kind,
        image=each.image.image[:MAX_TEXT],
        reference=each.reference,
        outcome=evidence.outcome,
        mode=each.rule.mode,
        whitelist_item=each.whitelist_item,
        policy=each.rule.policy,
        grace_until=each.grace_until,
        tenant=each.rule.tenant,
        bundle_id=each.bundle_id,
        bundle_hash=verdict.bundle_hash if verdict else "",
        digest=verdict.digest if verdict else evidence.digest,
        list_digest=verdict.list_digest if verdict else "",
        evaluated_at=verdict.evaluated_at if verdict else None,
        revision=evidence.revision,
        error=evidence.error,
        error_message=evidence.error_message[:MAX_TEXT],
        reasons=verdict.reasons[:max_reasons] if verdict else (),
    )
