"""The decision as an event: what the audit-writer and other tools are told."""

from datetime import datetime

from services.gateway.admission import AdmissionRequest
from services.gateway.decision import Decision, Judged
from services.gateway.whitelist import Release
from services.gateway.workloads import Workload
from shared.contracts import AdmissionDecided, ImageDecision

MAX_REASONS = 5
"""Findings repeated for each image; the verdict bucket has them all."""

MAX_IMAGES = 250
"""Images of one Pod in the event: with their reasons these stay within a message's 256 KiB."""


def decided(
    request: AdmissionRequest,
    workload: Workload,
    release: Release,
    *,
    decision: Decision,
    judged: list[Judged],
    message: str,
    now: datetime,
) -> AdmissionDecided:
    """The event of one answered admission; its id is the request's uid."""
    return AdmissionDecided(
        id=request.uid,
        decided_at=now,
        namespace=workload.namespace,
        pod_name=workload.name,
        pod_uid=workload.uid,
        operation=request.operation,
        sub_resource=request.sub_resource,
        action=decision.action,
        code=decision.code,
        message=message,
        release=release.recorded,
        fake_release=release.is_fake,
        user=request.user_info.username,
        owner=workload.owner,
        images=tuple(_image(each) for each in judged[:MAX_IMAGES]),
    )


def _image(each: Judged) -> ImageDecision:
    evidence, verdict = each.evidence, each.evidence.verdict
    return ImageDecision(
        container=each.image.container,
        container_kind=each.image.kind,
        image=each.image.image,
        reference=each.reference,
        outcome=evidence.outcome,
        mode=each.rule.mode,
        whitelist_item=each.whitelist_item,
        policy=each.rule.policy,
        tenant=each.rule.tenant,
        bundle_id=each.bundle_id,
        bundle_hash=verdict.bundle_hash if verdict else "",
        digest=verdict.digest if verdict else evidence.digest,
        list_digest=verdict.list_digest if verdict else "",
        evaluated_at=verdict.evaluated_at if verdict else None,
        revision=evidence.revision,
        error=evidence.error,
        error_message=evidence.error_message,
        reasons=verdict.reasons[:MAX_REASONS] if verdict else (),
    )
