"""Notification endpoints: webhooks that an account sets up, and the selectors that say what is posted to them.

Other kinds of endpoints (Slack, Jira, mail, …) are not simulated. Guessed: an unknown id is 404 "… not found", a password is not
shown, and switching the endpoint off is the admin account's.
"""

import uuid

from deploy.dev.anchore.calls import EMPTY, Call
from deploy.dev.anchore.errors import forbidden, refused
from deploy.dev.anchore.outbox import WEBHOOK, Configuration
from deploy.dev.anchore.wire import Json, JsonObject, whole_seconds

_SERVERS_OWN = ("uuid", "created_at", "last_updated", "configuration_uuid")


def listing(call: Call) -> Json:
    """The one kind that there is."""
    return [{"name": WEBHOOK, **_switch(call)}]


def switch(call: Call) -> Json:
    """On or off, for all accounts."""
    if call.path["endpoint"] != WEBHOOK:
        raise refused(400, f"Endpoint {call.path['endpoint']} is not simulated")
    call.engine.outbox.is_enabled = call.body.get("enabled", True)
    call.engine.outbox.switched = call.now
    return _switch(call)


def _switch(call: Call) -> JsonObject:
    outbox = call.engine.outbox
    return {"enabled": outbox.is_enabled, "last_updated": whole_seconds(outbox.switched)}


def configurations(call: Call) -> Json:
    """Of the account."""
    kept = call.engine.outbox.configurations.values()
    return [found.show() for found in kept if found.account == call.space.account]


def add(call: Call) -> Json:
    """Without selectors nothing is posted."""
    made = Configuration(
        account=call.space.account, given=_given(call.body), created=call.now, updated=call.now
    )
    call.engine.outbox.configurations[made.configuration_id] = made
    return made.show()


def get(call: Call) -> Json:
    """One configuration."""
    return _wanted(call).show()


def update(call: Call) -> Json:
    """Replaces it; selectors stay."""
    found = _wanted(call)
    found.given, found.updated = _given(call.body), call.now
    return found.show()


def delete(call: Call) -> Json:
    """200 without a body; its selectors go with it."""
    del call.engine.outbox.configurations[_wanted(call).configuration_id]
    return EMPTY


def selectors(call: Call) -> Json:
    """Of one configuration."""
    return list(_wanted(call).selectors.values())


def all_selectors(call: Call) -> Json:
    """Of all of the account's configurations."""
    kept = call.engine.outbox.configurations.values()
    own = [found for found in kept if found.account == call.space.account]
    return [selector for found in own for selector in found.selectors.values()]


def add_selector(call: Call) -> Json:
    """`global` is for the admin account only."""
    found = _wanted(call)
    return _keep_selector(call, found, str(uuid.uuid4()))


def get_selector(call: Call) -> Json:
    """One selector."""
    return _wanted_selector(call)


def update_selector(call: Call) -> Json:
    """Replaces it."""
    return _keep_selector(call, _wanted(call), str(_wanted_selector(call)["uuid"]))


def delete_selector(call: Call) -> Json:
    """200 without a body."""
    del _wanted(call).selectors[_wanted_selector(call)["uuid"]]
    return EMPTY


def _keep_selector(call: Call, found: Configuration, selector_id: str) -> JsonObject:
    if call.body["scope"] == "global" and call.user.account != "admin":
        raise forbidden("system", "createNotificationEndpointConfiguration")
    ids = {"configuration_uuid": found.configuration_id, "uuid": selector_id}
    found.selectors[selector_id] = {**_given(call.body), **ids}
    return found.selectors[selector_id]


def _given(body: JsonObject) -> JsonObject:
    return {name: value for name, value in body.items() if name not in _SERVERS_OWN}


def _wanted(call: Call) -> Configuration:
    found = call.engine.outbox.configurations.get(call.path["configuration"])
    if found is None or found.account != call.space.account:
        raise refused(404, "Configuration not found")
    return found


def _wanted_selector(call: Call) -> JsonObject:
    found = _wanted(call).selectors.get(call.path["selector"])
    if found is None:
        raise refused(404, "Selector not found")
    return found
