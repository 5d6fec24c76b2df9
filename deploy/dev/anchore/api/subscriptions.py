"""Subscriptions: which tags are watched for what. Unknown ones are an empty list, not a 404.

What an active one brings is told to webhooks, where there are any (`outbox`); `tag_update` also has the image watcher add what
a watched tag has moved to.
"""

from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.engine import SUBSCRIPTION_TYPES
from deploy.dev.anchore.errors import refused
from deploy.dev.anchore.records import Subscription
from deploy.dev.anchore.wire import Json

_KINDS = (*SUBSCRIPTION_TYPES, "repo_update")


def listing(call: Call) -> Json:
    """All, or those of one tag or kind."""
    key, kind = call.query.get("subscription_key"), call.query.get("subscription_type")
    found = call.space.subscriptions.values()
    return [item.show() for item in found if key in {None, item.key} and kind in {None, item.kind}]


def add(call: Call) -> Json:
    """500 for one that is there already."""
    key, kind = call.body.get("subscription_key"), call.body.get("subscription_type")
    if not (key and kind):
        raise refused(500, "body does not contain both subscription_key and subscription_type")
    if kind not in _KINDS:
        raise refused(400, f"{kind} is not a supported subscription type")
    made = Subscription(
        account=call.space.account,
        key=key,
        kind=kind,
        active=False,
        created=call.now,
        updated=call.now,
        value=call.body.get("subscription_value"),
    )
    if made.subscription_id in call.space.subscriptions:
        raise refused(500, "subscription already exists in DB")
    call.space.subscriptions[made.subscription_id] = made
    return [made.show()]


def get(call: Call) -> Json:
    """An empty list for an unknown id."""
    found = call.space.subscriptions.get(call.path["subscription_id"])
    return [] if found is None else [found.show()]


def update(call: Call) -> Json:
    """Switches it on or off."""
    found = call.space.subscriptions.get(call.path["subscription_id"])
    if found is None:
        raise refused(500, "'subscription_key'")
    wanted = call.body.get("active", found.active)
    if wanted != found.active:
        found.active, found.updated = wanted, call.now
    return [found.show()]


def delete(call: Call) -> Json:
    """`true`, whether or not it was there."""
    call.space.subscriptions.pop(call.path["subscription_id"], None)
    return True
