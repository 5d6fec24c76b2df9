"""Subscriptions: as v1's, lists of one included; an unknown id is an empty list, and a deletion is 204 either way."""

from deploy.dev.anchore.api import subscriptions
from deploy.dev.anchore.api_v2 import shapes
from deploy.dev.anchore.calls import NO_CONTENT, Call
from deploy.dev.anchore.wire import Json


def listing(call: Call) -> Json:
    """All, or those of one tag or kind."""
    return [shapes.subscription(record) for record in subscriptions.listing(call)]


def get(call: Call) -> Json:
    """An empty list for an unknown id."""
    return [shapes.subscription(record) for record in subscriptions.get(call)]


def add(call: Call) -> Json:
    """500 for one that is there already."""
    return [shapes.subscription(record) for record in subscriptions.add(call)]


def update(call: Call) -> Json:
    """Switches it on or off."""
    return [shapes.subscription(record) for record in subscriptions.update(call)]


def delete(call: Call) -> Json:
    """204."""
    subscriptions.delete(call)
    return NO_CONTENT
