"""Registry credentials. `validate=true`, the default, pings the registry first, by https only."""

from deploy.dev.anchore.calls import Call
from deploy.dev.anchore.errors import refused
from deploy.dev.anchore.wire import Json, JsonObject, whole_seconds

_KEPT = ("registry", "registry_name", "registry_type", "registry_user", "registry_verify")


def listing(call: Call) -> Json:
    """Without passwords."""
    return list(call.space.registries.values())


def get(call: Call) -> Json:
    """A list with the one record."""
    found = call.space.registries.get(call.path["registry"])
    if found is None:
        raise refused(404, "registry not found in DB")
    return [found]


def add(call: Call) -> Json:
    """500 for one that is there already."""
    name = call.body.get("registry")
    if not name:
        raise refused(500, "body does not contain registry key")
    if name in call.space.registries:
        raise refused(500, "registry already exists in DB")
    _ping(call, name)
    call.space.registries[name] = _record(call, name, created=whole_seconds(call.now))
    return [call.space.registries[name]]


def update(call: Call) -> Json:
    """The name can't change."""
    name = call.path["registry"]
    present = call.space.registries.get(name)
    if present is None:
        raise refused(404, "registry not found in DB")
    if call.body.get("registry", name) != name:
        raise refused(500, "registry name in path does not match registry name in body")
    _ping(call, name)
    changed = {**present, **_record(call, name, created=present["created_at"])}
    if "registry_name" not in call.body:
        changed["registry_name"] = present["registry_name"]
    call.space.registries[name] = changed
    return [changed]


def delete(call: Call) -> Json:
    """`true`, whether or not it was there."""
    call.space.registries.pop(call.path["registry"], None)
    return True


def _record(call: Call, name: str, *, created: str) -> JsonObject:
    defaults = {
        "registry_name": name,
        "registry_type": "docker_v2",
        "registry_user": "",
        "registry_verify": True,
    }
    kept = {key: value for key, value in call.body.items() if key in _KEPT}
    times = {"created_at": created, "last_updated": whole_seconds(call.now), "userId": call.space.account}
    return {**defaults, **kept, "registry": name, **times}


def _ping(call: Call, name: str) -> None:
    if not call.flag("validate", default=True):
        return
    registry = call.engine.registry
    verifies = call.body.get("registry_verify", True)
    if name in registry.unreachable:
        cause = f"HTTPSConnectionPool(host={name!r}): Max retries exceeded with url: /v2/ (Caused by SSLError(...))"
    elif name in registry.self_signed and verifies:
        cause = f"HTTPSConnectionPool(host={name!r}): Max retries exceeded with url: /v2/ (certificate verify failed)"
    else:
        return
    why = f"failed check to access registry (https://{name},) - exception: {cause}"
    raise refused(406, f"cannot ping supplied registry with supplied credentials - exception: {why}")
