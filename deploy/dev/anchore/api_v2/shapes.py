"""API v1's records in API v2's words: names in snake_case, accounts by name, times with a Z throughout.

What v2 knows nothing of is left out (an image's `analyzed_at` and `image_type`), and so is what it doesn't let be null: of an
image that was never analysed the metadata are empty. An image's `image_status` may be `deleting`, as v2's own query parameter
says, though its description of the record doesn't list it. Pure.
"""

from collections.abc import Iterable

from deploy.dev.anchore.wire import JsonObject, whole_seconds

_NAMES = {
    "fulldigest": "full_digest",
    "fulltag": "full_tag",
    "imageDigest": "image_digest",
    "imageId": "image_id",
    "parentDigest": "parent_digest",
    "notificationId": "notification_id",
    "policyId": "policy_id",
    "userId": "account_name",
}


def renamed(record: JsonObject, without: Iterable[str] = ()) -> JsonObject:
    """The outermost names only."""
    left_out = set(without)
    return {_NAMES.get(name, name): value for name, value in record.items() if name not in left_out}


def image(record: JsonObject) -> JsonObject:
    """One image."""
    metadata = record["image_content"]["metadata"]
    return {
        **renamed(record, ("analyzed_at", "image_type")),
        "image_content": {"metadata": _present(metadata)},
        "image_detail": [renamed(detail, ("digest",)) for detail in record["image_detail"]],
    }


def deletion(result: JsonObject) -> JsonObject:
    """What came of the deletion of one image."""
    return _present(
        {"image_digest": result["digest"], "status": result["status"], "detail": result["detail"]}
    )


def account(record: JsonObject) -> JsonObject:
    """One account; without an address where it has none."""
    return _present(record)


def user(record: JsonObject, account_name: str) -> JsonObject:
    """One user, who says here where he belongs."""
    return {**record, "account_name": account_name}


def subscription(record: JsonObject) -> JsonObject:
    """One subscription, whose times are v1's only epoch integers in a record."""
    times = {name: whole_seconds(record[name]) for name in ("created_at", "last_updated")}
    return {**renamed(record), **times}


def feed(record: JsonObject) -> JsonObject:
    """One feed."""
    groups = [
        {name: value for name, value in group.items() if name != "updated_at"} for group in record["groups"]
    ]
    return {**record, "groups": groups}


def _present(record: JsonObject) -> JsonObject:
    return {name: value for name, value in record.items() if value is not None}
