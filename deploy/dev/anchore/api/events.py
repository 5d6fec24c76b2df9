"""Events: the newest first, in pages. The simulator records analyses, failed look-ups, bundle changes and feed syncs."""

import fnmatch

from deploy.dev.anchore.calls import NO_CONTENT, Call
from deploy.dev.anchore.errors import refused
from deploy.dev.anchore.wire import Json, JsonObject


def listing(call: Call) -> Json:
    """One page, the newest event first."""
    page, limit = int(call.query.get("page", "1")), int(call.query.get("limit", "100"))
    if page < 1:
        raise refused(400, "page must be a valid integer greater than 0")
    if limit < 1:
        raise refused(400, "limit must be a valid integer greater than 0")
    found = [event for event in reversed(call.space.events) if _is_wanted(event, call.query)]
    shown = found[(page - 1) * limit : page * limit]
    return {"item_count": len(shown), "next_page": len(found) > page * limit, "page": page, "results": shown}


def _is_wanted(shown: JsonObject, query: dict[str, str]) -> bool:
    event = shown["event"]
    return (
        query.get("level", event["level"]).lower() == event["level"]
        and fnmatch.fnmatchcase(event["type"], query.get("event_type", "*"))
        and query.get("resource_type", event["resource"]["type"]) == event["resource"]["type"]
        and query.get("resource_id", event["resource"]["id"]) == event["resource"]["id"]
        and query.get("source_servicename", event["source"]["servicename"]) == event["source"]["servicename"]
        and query.get("since", "") <= event["timestamp"]
        and (event["timestamp"] < query["before"] if "before" in query else True)
    )


def get(call: Call) -> Json:
    """One event by its id."""
    return _wanted(call)


def delete(call: Call) -> Json:
    """One event."""
    call.space.events.remove(_wanted(call))
    return NO_CONTENT


def delete_many(call: Call) -> Json:
    """Answers the ids of those that are gone."""
    gone = [event for event in call.space.events if _is_wanted(event, call.query)]
    call.space.events = [event for event in call.space.events if event not in gone]
    return [event["generated_uuid"] for event in gone]


def _wanted(call: Call) -> JsonObject:
    named = call.path["event_id"]
    found = next((event for event in call.space.events if event["generated_uuid"] == named), None)
    if found is None:
        raise refused(404, "Event not found")
    return found
