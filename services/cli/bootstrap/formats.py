"""One policy bundle, two spellings: API v1's and API v2's. Pure.

What v1 calls policies, whitelists and blacklisted images are v2's rule sets, allowlists and denylisted images; triggers and
`type` parameters with black or white in them say deny and allow in v2. v2 refuses fields that it doesn't know and demands
ids, names and lists that v1 lets be missing. From v2 to v1 only what v1 cannot say is lost: source mappings and
recommendations.
"""

from typing import Any, TypeVar

import msgspec

from services.cli.bootstrap.bundle import Allowlist, Bundle, Item, Mapping, Rule, RuleSet, Selection
from shared.anchore import AnchoreApi

V1_VERSION, V2_VERSION = "1_0", "2"

_LATER = {"blacklist": "denylist", "whitelist": "allowlist"}
_EARLIER = {later: earlier for earlier, later in _LATER.items()}

_TO_V1 = {
    "rule_sets": "policies",
    "allowlists": "whitelists",
    "rule_set_ids": "policy_ids",
    "allowlist_ids": "whitelist_ids",
    "allowlisted_images": "whitelisted_images",
    "denylisted_images": "blacklisted_images",
}
_TO_V2 = {v1: v2 for v2, v1 in _TO_V1.items()}
_VERSIONED = ("rule_sets", "allowlists", "policies", "whitelists")

T = TypeVar("T", Rule, Item, Selection, Mapping)


def read(document: object) -> Bundle:
    """A bundle in either spelling. Raises `msgspec.ValidationError`, which names the field (in v2's words)."""
    is_v1 = isinstance(document, dict) and "rule_sets" not in document
    if not is_v1:
        return _completed(msgspec.convert(document, Bundle))
    bundle = _completed(msgspec.convert(_from_v1(document), Bundle))
    return _reworded(bundle, _LATER)


def write(bundle: Bundle, api: AnchoreApi) -> dict[str, Any]:
    """The document to send to a server of this API."""
    if api is not AnchoreApi.V1:
        return _versioned(_without_none(msgspec.to_builtins(bundle)), V2_VERSION)
    document = _without_none(msgspec.to_builtins(_reworded(bundle, _EARLIER)))
    document.pop("source_mappings", None)
    return _versioned(_renamed(document, {**_TO_V1, "description": "comment"}), V1_VERSION)


def _from_v1(document: Any) -> Any:
    """v1's names to v2's at every level; a single `policy_id` is a list of one."""
    if isinstance(document, list | tuple):
        return [_from_v1(each) for each in document]
    if not isinstance(document, dict):
        return document
    renamed = {_TO_V2.get(name, name): _from_v1(value) for name, value in document.items()}
    if renamed.get("comment") is not None:  # v1's word; the server may put the record's description beside it
        renamed["description"] = renamed["comment"]
    if renamed.get("policy_id"):
        renamed["rule_set_ids"] = [renamed["policy_id"]]
    return _without_none(renamed)


def _renamed(document: Any, names: dict[str, str]) -> Any:
    if isinstance(document, list | tuple):
        return [_renamed(each, names) for each in document]
    if not isinstance(document, dict):
        return document
    kept = {
        name: value for name, value in document.items() if name not in ("recommendation", "artifact_type")
    }
    return {names.get(name, name): _renamed(value, names) for name, value in kept.items()}


def _without_none(document: Any) -> Any:
    if isinstance(document, list | tuple):
        return [_without_none(each) for each in document]
    if not isinstance(document, dict):
        return document
    return {name: _without_none(value) for name, value in document.items() if value is not None}


def _versioned(document: dict[str, Any], version: str) -> dict[str, Any]:
    parts = [part for name in _VERSIONED for part in document.get(name, ())]
    for part in (document, *parts):
        part["version"] = version
    return document


def _reworded(bundle: Bundle, words: dict[str, str]) -> Bundle:
    """The bundle with its triggers and `type` parameters in the other API's words."""
    replace = msgspec.structs.replace
    return replace(
        bundle,
        rule_sets=tuple(
            replace(each, rules=tuple(_reworded_rule(rule, words) for rule in each.rules))
            for each in bundle.rule_sets
        ),
    )


def _reworded_rule(rule: Rule, words: dict[str, str]) -> Rule:
    trigger = rule.trigger
    for word, other in words.items():
        trigger = trigger.replace(word, other)  # blacklisted_name_version, blacklist_exact_match
    params = tuple(
        msgspec.structs.replace(each, value=words.get(each.value.lower(), each.value))
        if each.name == "type"
        else each
        for each in rule.params
    )
    return msgspec.structs.replace(rule, trigger=trigger, params=params)


def _completed(bundle: Bundle) -> Bundle:
    """With the ids and names that v2 demands and v1 lets be missing."""
    return msgspec.structs.replace(
        bundle,
        name=bundle.name or bundle.id,
        rule_sets=tuple(_completed_rule_set(each) for each in bundle.rule_sets),
        allowlists=tuple(_completed_allowlist(each) for each in bundle.allowlists),
        mappings=_identified(bundle.mappings, "mapping"),
        allowlisted_images=_identified(bundle.allowlisted_images, "allowed"),
        denylisted_images=_identified(bundle.denylisted_images, "denied"),
        source_mappings=bundle.source_mappings or None,
    )


def _completed_rule_set(rules: RuleSet) -> RuleSet:
    kind = None if rules.artifact_type == "image" else rules.artifact_type  # what older servers don't know
    return msgspec.structs.replace(
        rules, name=rules.name or rules.id, artifact_type=kind, rules=_identified(rules.rules, "rule")
    )


def _completed_allowlist(allowlist: Allowlist) -> Allowlist:
    return msgspec.structs.replace(
        allowlist, name=allowlist.name or allowlist.id, items=_identified(allowlist.items, "item")
    )


def _identified(things: tuple[T, ...], kind: str) -> tuple[T, ...]:
    found = []
    for number, each in enumerate(things):
        changed = msgspec.structs.replace(each, id=each.id or f"{kind}-{number}")
        if isinstance(changed, Selection):
            changed = msgspec.structs.replace(changed, name=changed.name or changed.id)
        found.append(changed)
    return tuple(found)
