"""POST /images: read the request's three spellings, ask the registry, record the image, queue its analysis.

A known image answers its record without new work, unless `force=true`, or its analysis had failed. The engine records what
the registry says the tag names *now*; a re-pushed tag makes a second record.
"""

import base64
from typing import NamedTuple

from deploy.dev.anchore import references
from deploy.dev.anchore.accounts import Space
from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.catalogue import Image, RegistryError
from deploy.dev.anchore.errors import Refusal, refused
from deploy.dev.anchore.records import ACTIVE, FAILED, ImageRecord, TagRecord
from deploy.dev.anchore.references import Reference
from deploy.dev.anchore.wire import Json, JsonObject, whole_seconds


class Submission(NamedTuple):
    """What is to be added, whichever way it was spelt."""

    tag: Reference
    digest: Reference | None
    dockerfile: str | None


def add(call: Call) -> Json:
    """Answers a list with the one record."""
    submission = _read(call.body)
    image = _look_up(call, submission.digest or submission.tag)
    known = call.space.images.get(image.digest)
    force = call.flag("force")
    if known is not None and submission.dockerfile is not None and not force:
        detail = {"digest": image.digest, "tag": submission.tag.fulltag}
        text = "Cannot specify dockerfile for an image that already exists unless using force=True for re-analysis"
        raise refused(400, text, **detail)
    if known is None and submission.digest is not None and force:
        raise refused(400, "image digest must already exist to force re-analyze using tag+digest")
    record = known or _create(call, image)
    _note_tag(call, record, submission)
    record.annotations |= call.body.get("annotations") or {}
    is_revived = record.image_status != ACTIVE
    if is_revived:
        record.image_status, record.deleted = ACTIVE, None
    if known is None or force or is_revived or record.status == FAILED:
        record.updated = call.now
        call.engine.analyzer.enqueue(record)
    active = {"analysis_update", "tag_update"} if call.flag("autosubscribe") else {"analysis_update"}
    call.engine.subscribe(call.space, submission.tag.fulltag, active)
    return [record.show()]


def _create(call: Call, image: Image) -> ImageRecord:
    record = ImageRecord(account=call.space.account, image=image, created=call.now, updated=call.now)
    call.space.images[image.digest] = record
    return record


def _note_tag(call: Call, record: ImageRecord, submission: Submission) -> None:
    if submission.dockerfile is not None:
        record.given_dockerfile = submission.dockerfile
    present = record.tag(submission.tag.fulltag)
    now = call.now
    if present is None:
        given = submission.dockerfile
        entry = TagRecord(reference=submission.tag, created=now, updated=now, detected=now, dockerfile=given)
        call.space.tag_image(record, entry)
        return
    if submission.dockerfile is not None:
        present.dockerfile, present.updated = submission.dockerfile, now
    if call.space.newest_of(submission.tag.fulltag)[:1] != [record]:
        present.detected = now  # the tag has come back to an image it had left


def _look_up(call: Call, reference: Reference) -> Image:
    return look_up(call, call.space, reference)


def look_up(call: Call, space: Space, reference: Reference) -> Image:
    """What the registry says; its refusal names the command line that the real server would have run."""
    try:
        return call.engine.registry.resolve(reference, set(space.registries))
    except RegistryError as error:
        refusal, body = registry_refusal(error, reference, call.now)
        call.engine.record_event(
            space.account,
            "system.image_analysis.registry_lookup_failed",
            ("image_reference", reference.name),
            level="error",
            message="Referenced image not found in registry",
            details={"anchore_error_json": body},
        )
        raise refusal from error


def registry_refusal(error: RegistryError, reference: Reference, now: float) -> tuple[Refusal, JsonObject]:
    """The 400, and its body for the event."""
    text = (
        "Error encountered in skopeo operation. cmd=/bin/sh -c skopeo   inspect --raw --tls-verify=false  "
        f'docker://{reference.name}, rc=1, stdout=None, stderr=b\'time="{whole_seconds(now)}" level=fatal '
        f'msg="Error parsing image name \\\\"docker://{reference.name}\\\\": {error.said}"\\n\', error_code={error.code}'
    )
    message = "cannot fetch image digest/manifest from registry"
    detail = {"error_codes": [error.code], "raw_exception_message": text}
    return refused(400, message, **detail), {"detail": detail, "httpcode": 400, "message": message}


def _read(body: JsonObject) -> Submission:
    if not body:
        text = "Invalid request object, must be a valid json object"
        raise refused(400, "Could not validate request due to error", validation_error=text)
    source = body.get("source") or _source_of_old_fields(body)
    if source.get("tag"):
        return _read_tag_source(source["tag"])
    if source.get("digest"):
        return _read_digest_source(source["digest"])
    raise refused(
        400, "The source property must have at least one of tag, digest, or archive set to non-null"
    )


def _source_of_old_fields(body: JsonObject) -> JsonObject:
    tag, digest, dockerfile = body.get("tag"), body.get("digest"), body.get("dockerfile")
    if digest and tag is None:
        raise refused(400, "Validation error", validation_error=_MISSING_TAG)
    if not tag:
        raise refused(400, 'Must include either "tag", "tag" and "digest", or "source" property in body')
    if not digest:
        return {"tag": {"pullstring": tag, "dockerfile": dockerfile}}
    if "@" not in digest:
        parsed = _parse(tag)
        digest = f"{parsed.registry}/{parsed.repository}@{digest}"
    return {"digest": {"pullstring": digest, "tag": tag, "dockerfile": dockerfile}}


def _read_tag_source(source: JsonObject) -> Submission:
    return Submission(_parse_tag(source["pullstring"]), None, _decode(source.get("dockerfile")))


def _read_digest_source(source: JsonObject) -> Submission:
    digest = _parse(source["pullstring"])
    if digest.digest is None:
        raise refused(400, "Must have digest-based pull string", invalid_value=source["pullstring"])
    return Submission(_parse_tag(source["tag"]), digest, _decode(source.get("dockerfile")))


def _parse_tag(pullstring: str) -> Reference:
    reference = _parse(pullstring)
    if reference.digest is not None:
        raise refused(400, "Must have tag-based pull string", invalid_value=pullstring)
    return reference


def _parse(pullstring: str) -> Reference:
    try:
        return references.read(pullstring)
    except ValueError as error:
        raise refused(400, "Could not validate request due to error", validation_error=str(error)) from error


def _decode(dockerfile: str | None) -> str | None:
    return None if dockerfile is None else base64.b64decode(dockerfile).decode(errors="replace")


_MISSING_TAG = (
    "None is not of type 'string'\n\nFailed validating 'type' in schema['properties']['tag']:\n"
    "    {'description': 'A valid docker tag reference (e.g. '\n"
    "                    'docker.io/nginx:latest) that will be associated with '\n"
    "                    'the image but not used to pull the image.',\n"
    "     'type': 'string'}\n\nOn instance['tag']:\n    None"
)
