"""The engine about itself: status, services, feeds, error codes.

Neither `/health` nor `/v1/status` tells whether a check would work: both stay well with the policy engine or the catalog
gone, as in the real server. The long static answers (policy_spec, event_types) are not simulated.
"""

from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.engine import SERVICES
from deploy.dev.anchore.errors import refused
from deploy.dev.anchore.wire import NAME, Json, JsonObject

_STATUS = {
    "available": True,
    "busy": False,
    "db_version": "0.0.16",
    "detail": {},
    "message": "all good",
    "up": True,
    "version": "1.1.0",
}

_ERROR_CODES = {
    "REGISTRY_PERMISSION_DENIED": "The registry has reported permission denied for the requested registry resource",
    "REGISTRY_IMAGE_NOT_FOUND": "The requested image (tag, digest) cannot be found in the requested registry",
    "REGISTRY_NOT_ACCESSIBLE": "The registry is not accessible on the network from the anchore engine service",
    "REGISTRY_NOT_SUPPORTED": "Anchore cannot access the specified registry as supporting the v2 registry API",
    "SKOPEO_UNKNOWN_ERROR": "The skopeo command has failed due to an error that is not explicitly handled, "
    "see the command output/error for more information",
    "UNKNOWN": "An unknown error has occurred, please consult the anchore service logs for more information",
    "FEED_SYNC_ALREADY_IN_PROGRESS": "Feed sync lock held by another process",
    "OSARCH_MISMATCH": "The image manifest from the registry does not container an arch/os that matches local environment",
}


def ping(_call: Call) -> Json:
    """The version of the API."""
    return "v1"


def health(_call: Call) -> Json:
    """Says nothing about the parts."""
    return "ok"


def version(_call: Call) -> Json:
    """The recorded engine's."""
    return {"api": {}, "db": {"schema_version": "0.0.16"}, "service": {"version": "1.1.0"}}


def swagger(_call: Call) -> Json:
    """The head of the API description: clients read the API's version from it and ask accordingly."""
    return {"info": {"title": NAME, "version": "0.1.20"}, "basePath": "/v1", "paths": {}, "swagger": "2.0"}


def status(_call: Call) -> Json:
    """Of the service that answers, which is well whenever it answers."""
    return _STATUS


def system(call: Call) -> Json:
    """All services."""
    return {"service_states": services(call)}


def services(call: Call) -> list[JsonObject]:
    """All available, even those that have just ended; none at all without the catalog that keeps the list."""
    if "catalog" in call.engine.down:
        return []
    return [_service(name) for name in SERVICES]


def service(call: Call) -> Json:
    """Those of one name."""
    return [shown for shown in services(call) if shown["servicename"] == call.path["service"]]


def _service(name: str) -> JsonObject:
    return {
        "base_url": f"http://127.0.0.1:{SERVICES[name]}",
        "hostid": "anchore-quickstart",
        "service_detail": _STATUS,
        "servicename": name,
        "status": True,
        "status_message": "available",
        "version": "v1",
    }


def error_codes(_call: Call) -> Json:
    """What may stand in `error_codes`."""
    return [{"description": text, "name": name} for name, text in _ERROR_CODES.items()]


def feeds(call: Call) -> Json:
    """Empty before the first sync."""
    return call.engine.feeds.show()


def sync_feeds(call: Call) -> Json:
    """What came of it, feed by feed."""
    if not call.flag("sync"):
        return []
    done = call.engine.feeds.sync(call.now)
    if done:
        kinds = [feed["feed"] for feed in done]
        call.engine.record_event(
            call.space.account,
            "system.feeds.sync.completed",
            ("feeds", None),
            service="policy_engine",
            message="Feeds sync task completed",
            details={"sync_feed_types": kinds},
        )
    return done


def webhook_test(call: Call) -> Json:
    """Not simulated: answers as the real server does without that webhook, with the bare name of the missing key."""
    raise refused(500, f"'{call.path['kind']}'")
