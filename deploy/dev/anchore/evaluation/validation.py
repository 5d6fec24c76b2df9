"""Whether a bundle is sound: versions, gates, triggers, parameters, and references between its parts.

What the schema can say (types, required fields, the three actions) was said before; these are the policy engine's own
findings, answered as 400 "Bundle failed validation".
"""

import re

from deploy.dev.anchore.evaluation.gates import GATES, KNOWN_GATES, Param
from deploy.dev.anchore.wire import JsonObject

_VERSIONS = ["1_0"]


def problems_of(bundle: JsonObject) -> list[JsonObject]:
    """An empty list for a sound bundle."""
    unsupported = [
        thing for thing in (bundle, *_versioned_parts(bundle)) if thing.get("version") not in _VERSIONS
    ]
    if unsupported:
        return [version_problem(unsupported[0]["version"], _VERSIONS)]
    rules = [rule for policy in bundle["policies"] for rule in policy.get("rules") or []]
    found = [problem for rule in rules for problem in _rule_problems(rule)]
    return found or _missing_references(bundle)


def _versioned_parts(bundle: JsonObject) -> list[JsonObject]:
    return [*bundle["policies"], *(bundle.get("whitelists") or [])]


def _problem(kind: str, details: str) -> JsonObject:
    return {"details": details, "problem_type": kind, "severity": "error"}


def version_problem(version: str, supported: list[str]) -> JsonObject:
    """Said of a bundle, or of a part of it, in a format that isn't known."""
    text = (
        f"Found version {version}, expected one of supported versions {supported}. "
        f'Detail:"Version not supported" (supported_versions={supported},found_version={version})'
    )
    return _problem("UnsupportedVersionError", text)


def _rule_problems(rule: JsonObject) -> list[JsonObject]:
    gate, name, rule_id = rule["gate"], rule["trigger"], rule.get("id")
    if gate.lower() not in KNOWN_GATES:
        text = (
            "The specified gate is not found in the policy engine as a valid gate name "
            f"(gate={gate},trigger=None,rule_id={rule_id},valid_gates={list(KNOWN_GATES)})"
        )
        return [_problem("GateNotFoundError", text)]
    triggers = GATES.get(gate.lower())
    if triggers is None:
        return []
    trigger = triggers.get(name.lower())
    if trigger is None:
        text = (
            "The specified trigger is not found in the policy engine as a valid trigger name "
            f"(gate={gate},trigger={name},rule_id={rule_id},valid_triggers={list(triggers)})"
        )
        return [_problem("TriggerNotFoundError", text)]
    given = {param["name"].lower(): param["value"] for param in rule.get("params") or []}
    where = f"(gate={gate},trigger={name},rule_id={rule_id}"
    return [*_value_problems(trigger.params, given, where), *_surplus(trigger.params, given, where)]


def _value_problems(expected: dict[str, Param], given: dict[str, str], where: str) -> list[JsonObject]:
    kind = "ParameterValueInvalidError"
    found = []
    for name, param in expected.items():
        value = given.get(name) or None
        if value is None:
            if param.required:
                found.append(_problem(kind, f"Required parameter {where})"))
        elif not _is_allowed(value, param):
            found.append(_problem(kind, f"Invalid value for parameter {name}: {value} {where})"))
    return found


def _is_allowed(value: str, param: Param) -> bool:
    if param.choices:
        return value.lower() in {choice.lower() for choice in param.choices}
    return not param.pattern or re.fullmatch(param.pattern, value) is not None


def _surplus(expected: dict[str, Param], given: dict[str, str], where: str) -> list[JsonObject]:
    names = [name for name in given if name not in expected]
    shown = f"valid_params={list(expected)})"
    return [
        _problem("InvalidParameterError", f"Invalid parameter {where},param={name},{shown}") for name in names
    ]


def _missing_references(bundle: JsonObject) -> list[JsonObject]:
    present = {
        "policy": {policy["id"] for policy in bundle["policies"]},
        "whitelist": {item["id"] for name in ("whitelists", "allowlists") for item in bundle.get(name) or []},
    }
    return [
        _reference_problem(kind, name)
        for mapping in bundle["mappings"]
        for kind, name in _references(mapping)
        if name not in present[kind]
    ]


def _references(mapping: JsonObject) -> list[tuple[str, str]]:
    single = mapping.get("policy_id")
    policies = [single] if single else mapping.get("policy_ids") or []
    whitelists = [*(mapping.get("whitelist_ids") or []), *(mapping.get("allowlist_ids") or [])]
    return [("policy", name) for name in policies] + [("whitelist", name) for name in whitelists]


def _reference_problem(kind: str, name: str) -> JsonObject:
    text = f"Referenced object not found (reference_type={kind},reference_id={name})"
    return _problem("ReferencedObjectNotFoundError", text)
