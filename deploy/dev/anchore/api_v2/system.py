"""The server about itself, in API v2. The versions are made up: an API of version 2 and a service that calls itself simulated.

`/health` answers nothing at all, as the description says, and says as little of the parts as v1's does.
"""

from deploy.dev.anchore.api import system
from deploy.dev.anchore.api_v2 import shapes
from deploy.dev.anchore.calls import EMPTY, Call
from deploy.dev.anchore.wire import Json

_VERSION = "5.0.0"
_SCHEMA_VERSION = "5000"


def ping(_call: Call) -> Json:
    """The version of the API."""
    return "v2"


def health(_call: Call) -> Json:
    """200 and no body."""
    return EMPTY


def version(_call: Call) -> Json:
    """By `api.version` a caller can tell which API he has found."""
    return {
        "api": {"version": "2"},
        "db": {"schema_version": _SCHEMA_VERSION},
        "service": {"version": _VERSION},
    }


def status(call: Call) -> Json:
    """Of the service that answers, which is well whenever it answers."""
    return {**system.status(call), "db_version": _SCHEMA_VERSION, "version": _VERSION}


def feeds(call: Call) -> Json:
    """Empty before the first sync."""
    return [shapes.feed(record) for record in system.feeds(call)]


def sync_feeds(call: Call) -> Json:
    """A message only; which feeds came is in GET. There is no `sync` to ask for it: to post is to ask."""
    call.query["sync"] = "true"
    system.sync_feeds(call)
    return {"message": "Datasets sync successful"}
