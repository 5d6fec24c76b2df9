"""Images: read, list, delete. Adding one is long enough for a module of its own, `submission`.

A digest in a path may be the image's own or its manifest list's; the record is the same.
"""

from deploy.dev.anchore import references
from deploy.dev.anchore.accounts import Space
from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.errors import image_not_found, refused
from deploy.dev.anchore.records import ACTIVE, ANALYZING, DELETING, ImageRecord
from deploy.dev.anchore.wire import Json, JsonObject


def wanted(call: Call) -> ImageRecord:
    """The image that the path names; 404 when this account doesn't have it."""
    if "digest" in call.path:
        record = call.space.image(call.path["digest"])
    else:
        record = call.space.image_by_id(call.path["image_id"])
    if record is None:
        raise image_not_found()
    return record


def get(call: Call) -> Json:
    """A list with the one record."""
    return [wanted(call).show()]


def listing(call: Call) -> Json:
    """GET /images: all, newest first, or those of one tag or digest, of which `history` shows the older ones too."""
    fulltag = call.query.get("fulltag")
    if fulltag is None:
        found = list(reversed(call.space.images.values()))
    else:
        found = _of_reference(call.space, fulltag)
    state = call.query.get("image_status", ACTIVE)
    found = [record for record in found if state in {"all", record.image_status}]
    status = call.query.get("analysis_status")
    found = [record for record in found if status in {None, record.status}]
    if fulltag is not None and not found:
        raise refused(404, "image data not found in DB")
    if fulltag is not None and not call.flag("history"):
        found = found[:1]
    return [record.show() for record in found]


def _of_reference(space: Space, pullstring: str) -> list[ImageRecord]:
    reference = references.read_leniently(pullstring)
    if reference.digest is None:
        return space.newest_of(reference.fulltag)
    record = space.image(reference.digest)
    return [] if record is None else [record]


def summaries(call: Call) -> Json:
    """One line for each tag."""
    state = call.query.get("image_status", ACTIVE)
    shown = [record for record in call.space.images.values() if state in {"all", record.image_status}]
    return [line for record in shown for line in record.summarize()]


def delete(call: Call) -> Json:
    """Always 200; the answer's `status` says what came of it."""
    return _delete(call, call.path["digest"])


def delete_by_id(call: Call) -> Json:
    """404 for an unknown id, unlike deletion by digest."""
    record = call.space.image_by_id(call.path["image_id"])
    if record is None:
        raise image_not_found()
    return _delete(call, record.image.digest)


def delete_many(call: Call) -> Json:
    """One result for each digest, in the order asked."""
    return [_delete(call, digest) for digest in call.query["imageDigests"].split(",")]


def _delete(call: Call, digest: str) -> JsonObject:
    record = call.space.images.get(digest)
    if record is None:
        return {"detail": "No image found with the digest", "digest": digest, "status": "not_found"}
    reason = None if call.flag("force") else _why_not_deletable(call.space, record)
    if reason is not None:
        return {"detail": reason, "digest": digest, "status": "delete_failed"}
    for tag in record.tags:
        if call.space.newest_of(tag.reference.fulltag)[:1] == [record]:
            for subscription in call.space.subscriptions.values():
                if subscription.key == tag.reference.fulltag:
                    subscription.active = False
    record.image_status = DELETING
    call.engine.lingering.append(record)
    record.deleted = call.now
    record.updated = call.now
    call.engine.analyzer.forget(record)
    return {"detail": None, "digest": digest, "status": "deleting"}


def _why_not_deletable(space: Space, record: ImageRecord) -> str | None:
    if record.status == ANALYZING:
        return "cannot delete image that is being analyzed"
    for tag in record.tags:
        fulltag = tag.reference.fulltag
        is_watched = any(item.key == fulltag and item.active for item in space.subscriptions.values())
        if is_watched and space.newest_of(fulltag)[:1] == [record]:
            return "cannot delete image that is the latest of its tags, and has active subscription"
    return None
