"""Images: add, read, list, delete. POST answers one record, not a list, and takes one spelling only: `source`.

GET of one image answers one record too. A digest that is no digest is 404 as in v1, though v2's description has a pattern.
"""

from deploy.dev.anchore.api import images, submission
from deploy.dev.anchore.api_v2 import shapes
from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.wire import Json, JsonObject


def add(call: Call) -> Json:
    """The record of the image, new or known."""
    sources = call.body.get("source") or {"tag": None}
    asked = call.asked(
        {"auto_subscribe": "autosubscribe"},
        {
            "annotations": call.body.get("annotations"),
            "source": {name: _source(source) for name, source in sources.items()},
        },
    )
    [record] = submission.add(asked)
    return shapes.image(record)


def _source(source: JsonObject | None) -> JsonObject | None:
    if source is None:
        return None
    return {("pullstring" if name == "pull_string" else name): value for name, value in source.items()}


def listing(call: Call) -> Json:
    """Below `items`."""
    found = images.listing(call.asked({"full_tag": "fulltag"}))
    image_id = call.query.get("image_id")
    shown = [shapes.image(record) for record in found]
    return {
        "items": [record for record in shown if image_id in {None, record["image_detail"][0]["image_id"]}]
    }


def get(call: Call) -> Json:
    """One record."""
    return shapes.image(images.wanted(call).show())


def delete(call: Call) -> Json:
    """Always 200; the answer's `status` says what came of it."""
    return shapes.deletion(images.delete(call))


def delete_many(call: Call) -> Json:
    """One result for each digest."""
    return [
        shapes.deletion(result)
        for result in images.delete_many(call.asked({"image_digests": "imageDigests"}))
    ]
