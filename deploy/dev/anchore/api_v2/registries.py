"""Registry credentials: as v1's, lists of one included; a deletion is 204, whether or not there was anything to delete."""

from deploy.dev.anchore.api import registries
from deploy.dev.anchore.api_v2 import shapes
from deploy.dev.anchore.calls import NO_CONTENT, Call
from deploy.dev.anchore.wire import Json


def listing(call: Call) -> Json:
    """Without passwords."""
    return [shapes.renamed(record) for record in registries.listing(call)]


def get(call: Call) -> Json:
    """A list with the one record."""
    return [shapes.renamed(record) for record in registries.get(call)]


def add(call: Call) -> Json:
    """500 for one that is there already."""
    return [shapes.renamed(record) for record in registries.add(call)]


def update(call: Call) -> Json:
    """The name can't change."""
    return [shapes.renamed(record) for record in registries.update(call)]


def delete(call: Call) -> Json:
    """204."""
    registries.delete(call)
    return NO_CONTENT
