"""What a decision says of its images, as an Audit's spec: the original's sentences, and the evidence.

The spec is made from one decision alone, and cut to its share of the Audit by steps that are the same
for the same decision. Pure, like audit.py.
"""

from services.audit_writer import limits
from services.audit_writer.limits import Shape, cut
from shared.contracts import Action, AdmissionDecided, ImageDecision, Outcome, Reason
from shared.crds import AuditImage, AuditSpec

ACTIONS = {Action.ALLOWED: "allowed", Action.REJECTED: "reject"}
"""The original's words for what the API server was answered."""

_RESULTS = {
    Outcome.PASS: "Image passed policy check",
    Outcome.FAIL: "Image failed policy check",
    Outcome.PENDING: "Image has no verdict yet",
    Outcome.ERROR: "Image could not be checked",
    Outcome.NOT_ASKED: "Image not checked",
}
_WHITELISTED = "Whitelisted release"

_EVERYTHING = Shape(images=1 << 30, reasons=1 << 30, text=1 << 30)


def fitted_spec(decision: AdmissionDecided) -> tuple[AuditSpec, str]:
    """The spec in the largest shape that fits, and what that leaves out (empty: nothing)."""
    spec, shape = _spec(decision, _EVERYTHING), _EVERYTHING
    whole = spec
    for shape in limits.shapes(len(decision.images)):
        spec = _spec(decision, shape)
        if limits.stored_size(spec) <= limits.MAX_SPEC_BYTES:
            break
    if spec == whole:
        return spec, ""
    return spec, f"kept of {len(decision.images)} images, at most: {shape}"


def sentence(image: ImageDecision, limit: int = limits.MAX_TEXT) -> str:
    """The original's words for what was found: `Image passed policy check: nginx`."""
    words = _WHITELISTED if image.whitelist_item else _RESULTS[image.outcome]
    return f"{words}: {cut(image.image, limit)}"


def sentence_of(image: AuditImage) -> str:
    """The same of an image that is recorded already."""
    words = _WHITELISTED if image.whitelist_item else _RESULTS[Outcome(image.verdict)]
    return f"{words}: {image.image}"


def _spec(decision: AdmissionDecided, shape: Shape) -> AuditSpec:
    images = limits.kept_images(decision.images, shape.images)
    names = min(shape.text, limits.MAX_NAME) if shape is not _EVERYTHING else shape.text
    return AuditSpec(
        release_name=cut(decision.release, names),
        resource="Pod",
        image=tuple(cut(image.image, shape.text) for image in images),
        result=tuple(sentence(image, shape.text) for image in images),
        action=ACTIONS[decision.action],
        images=tuple(_image(image, shape) for image in images),
        user=cut(decision.user, names),
    )


def _image(image: ImageDecision, shape: Shape) -> AuditImage:
    text = shape.text
    error = f"{image.error}: {image.error_message}" if image.error else ""
    return AuditImage(
        container=cut(image.container, text),
        container_kind=image.container_kind,
        image=cut(image.image, text),
        verdict=image.outcome.value,
        digest=cut(image.digest, text),
        list_digest=cut(image.list_digest, text),
        bundle=cut(image.bundle_id, text),
        bundle_hash=cut(image.bundle_hash, text),
        policy=cut(image.policy or "", text),
        tenant=cut(image.tenant, text),
        evaluated_at=image.evaluated_at,
        grace_until=image.grace_until,
        reasons=tuple(_reason(each, text) for each in image.reasons[: shape.reasons]),
        whitelist_item=cut(image.whitelist_item or "", text),
        error=cut(error, text),
    )


def _reason(reason: Reason, text: int) -> Reason:
    return Reason(
        gate=cut(reason.gate, text),
        trigger=cut(reason.trigger, text),
        action=cut(reason.action, text),
        text=cut(reason.text, text),
        trigger_id=cut(reason.trigger_id, text),
    )
