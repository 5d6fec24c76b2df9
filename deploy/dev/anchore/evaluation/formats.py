"""One policy, two spellings: the bundle of API v1 and the policy of API v2. Pure, and free of loss from v2 to v1 and back.

What v1 calls policies, whitelists and blacklisted images are v2's rule sets, allowlists and denylisted images; v2 demands ids,
names and lists where v1 lets them be missing, so those are made up from what is there. Fields that v1 doesn't know
(`recommendation`, `source_mappings`, …) stay in the bundle, where v1 lets anything stand; fields that v2 doesn't know are left
out, since v2 refuses them. The few triggers and parameter values with black and white in them are renamed too: that the later
server says deny and allow there is taken from its manual, the API description doesn't say.
"""

from collections.abc import Iterable

from deploy.dev.anchore.wire import JsonObject

POLICY_VERSION = "2"
"""Of a policy and of all its versioned parts."""

_BUNDLE_VERSION = "1_0"

_LATER = {
    "blacklist": "denylist",
    "whitelist": "allowlist",
    "blacklist_exact_match": "denylist_exact_match",
    "blacklist_partial_match": "denylist_partial_match",
}
_EARLIER = {later: earlier for earlier, later in _LATER.items()}


def to_policy(bundle: JsonObject) -> JsonObject:
    """The v2 policy of a sound v1 bundle."""
    lists = [*_items(bundle, "whitelists"), *_items(bundle, "allowlists")]
    allowed = [*_items(bundle, "whitelisted_images"), *_items(bundle, "allowlisted_images")]
    denied = [*_items(bundle, "blacklisted_images"), *_items(bundle, "denylisted_images")]
    return {
        **_named(bundle, bundle["id"]),
        "version": POLICY_VERSION,
        "rule_sets": [_to_rule_set(policy) for policy in _items(bundle, "policies")],
        "allowlists": [_to_allowlist(whitelist) for whitelist in lists],
        "mappings": [_to_mapping(rule, number) for number, rule in enumerate(_items(bundle, "mappings"))],
        "allowlisted_images": [_to_selection(rule, number) for number, rule in enumerate(allowed)],
        "denylisted_images": [_to_selection(rule, number) for number, rule in enumerate(denied)],
        **_kept(bundle, ("source_mappings", "last_updated")),
    }


def to_bundle(policy: JsonObject) -> JsonObject:
    """The v1 bundle of a v2 policy that its schema allows."""
    return {
        **_commented(policy),
        "version": _BUNDLE_VERSION,
        "policies": [_to_policy_of_bundle(rule_set) for rule_set in _items(policy, "rule_sets")],
        "whitelists": [
            {**_commented(item), "version": _BUNDLE_VERSION} for item in _items(policy, "allowlists")
        ],
        "mappings": [_to_mapping_of_bundle(rule) for rule in _items(policy, "mappings")],
        "whitelisted_images": _items(policy, "allowlisted_images"),
        "blacklisted_images": _items(policy, "denylisted_images"),
        **_kept(policy, ("source_mappings",)),
    }


def to_mapping(rule: JsonObject | None) -> JsonObject | None:
    """One mapping as v2 shows it beside an evaluation."""
    return None if rule is None else _to_mapping(rule, 0)


def to_selection(rule: JsonObject | None) -> JsonObject | None:
    """One rule of an image list as v2 shows it beside an evaluation."""
    return None if rule is None else _to_selection(rule, 0)


def to_trigger(name: str) -> str:
    """A trigger's name as v2 says it."""
    return _LATER.get(name, name)


def _to_rule_set(policy: JsonObject) -> JsonObject:
    rules = [_to_rule(rule, number) for number, rule in enumerate(_items(policy, "rules"))]
    return {
        **_named(policy, policy["id"]),
        "version": POLICY_VERSION,
        "rules": rules,
        **_kept(policy, ("artifact_type",)),
    }


def _to_rule(rule: JsonObject, number: int) -> JsonObject:
    return {
        "id": rule.get("id") or f"rule-{number}",
        "gate": rule["gate"],
        "trigger": to_trigger(rule["trigger"]),
        "action": rule["action"],
        "params": [_renamed(param, _LATER) for param in _items(rule, "params")],
        **_kept(rule, ("description", "recommendation")),
    }


def _to_allowlist(whitelist: JsonObject) -> JsonObject:
    names = ("id", "gate", "trigger_id", "expires_on", "description")
    items = [
        {"id": f"item-{number}", **_kept(item, names)}
        for number, item in enumerate(_items(whitelist, "items"))
    ]
    return {**_named(whitelist, whitelist["id"]), "version": POLICY_VERSION, "items": items}


def _to_mapping(rule: JsonObject, number: int) -> JsonObject:
    single = rule.get("policy_id")
    return {
        **_to_selection(rule, number),
        "rule_set_ids": [single] if single else _items(rule, "policy_ids"),
        "allowlist_ids": [*_items(rule, "whitelist_ids"), *_items(rule, "allowlist_ids")],
    }


def _to_selection(rule: JsonObject, number: int) -> JsonObject:
    names = ("id", "name", "registry", "repository", "image", "description")
    return {"id": f"mapping-{number}", **_kept(rule, names)}


def _to_policy_of_bundle(rule_set: JsonObject) -> JsonObject:
    rules = [
        {
            **rule,
            "trigger": _EARLIER.get(rule["trigger"], rule["trigger"]),
            "params": [_renamed(param, _EARLIER) for param in rule["params"]],
        }
        for rule in rule_set["rules"]
    ]
    return {**_commented(rule_set), "version": _BUNDLE_VERSION, "rules": rules}


def _to_mapping_of_bundle(rule: JsonObject) -> JsonObject:
    kept = {name: value for name, value in rule.items() if name not in {"rule_set_ids", "allowlist_ids"}}
    return {**kept, "policy_ids": rule["rule_set_ids"], "whitelist_ids": rule["allowlist_ids"]}


def _renamed(param: JsonObject, words: dict[str, str]) -> JsonObject:
    """Only the parameter `type` carries such a word."""
    value = param["value"]
    return {"name": param["name"], "value": words.get(value, value) if param["name"] == "type" else value}


def _named(thing: JsonObject, otherwise: str) -> JsonObject:
    """Id, name and description, of which v1 demands the first and calls the last a comment."""
    described = thing.get("description", thing.get("comment"))
    shown = {"id": thing["id"], "name": thing.get("name") or otherwise}
    return shown if described is None else {**shown, "description": described}


def _commented(thing: JsonObject) -> JsonObject:
    """All that stands in it but what has another name in v1."""
    changed = {
        "description",
        "rule_sets",
        "allowlists",
        "allowlisted_images",
        "denylisted_images",
        "last_updated",
    }
    kept = {name: value for name, value in thing.items() if name not in changed}
    return kept if "description" not in thing else {**kept, "comment": thing["description"]}


def _kept(thing: JsonObject, names: Iterable[str]) -> JsonObject:
    return {name: thing[name] for name in names if thing.get(name) is not None}


def _items(thing: JsonObject, name: str) -> list[JsonObject]:
    found: list[JsonObject] = thing.get(name) or []
    return found
