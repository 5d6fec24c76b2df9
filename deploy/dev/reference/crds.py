"""docs/reference/crds.md: the custom resources, from the one copy of their definitions inside the chart."""

from collections.abc import Iterator
from typing import Any

import yaml

from deploy.dev.reference.markdown import code, table
from deploy.dev.stack import CRDS

KINDS = ("WhiteListItem", "ImagePolicy", "Audit")
"""What people write comes before what Moorgate writes."""

WRITTEN_BY_KUBERNETES = frozenset({"apiVersion", "kind", "metadata"})

INTRODUCTION = """\
# Reference: custom resources

What the words mean is in [concepts.md](../concepts.md), how Audits are read in [audits.md](../audits.md). The definitions
themselves are in [the chart](../../deploy/helm/moorgate/files/crds). `kubectl explain` shows the same texts in a terminal.
Fields that are not required may be left out."""

_SCOPES = {"Cluster": "cluster-scoped", "Namespaced": "namespaced"}

_BOUNDS = {
    "maxLength": "at most {} characters",
    "minLength": "not empty",
    "maxItems": "at most {} entries",
    "maxProperties": "at most {} entries",
    "pattern": "`{}`",
}


def page() -> str:
    """The page."""
    found = {each["spec"]["names"]["kind"]: each["spec"] for each in _definitions()}
    return "\n\n".join([INTRODUCTION, *(_kind(found[kind]) for kind in KINDS)])


def _definitions() -> Iterator[dict[str, Any]]:
    for file in sorted(CRDS.glob("*.yaml")):
        yield yaml.safe_load(file.read_text(encoding="utf-8"))


def _kind(spec: dict[str, Any]) -> str:
    [version] = spec["versions"]
    names, schema = spec["names"], version["schema"]["openAPIV3Schema"]
    about = (
        f"`apiVersion: {spec['group']}/{version['name']}`, {_SCOPES[spec['scope']]}; for kubectl "
        f"{code([names['plural'], *names['shortNames']])}."
    )
    parts = [f"## {names['kind']}", schema["description"], about]
    parts.append(table(("field", "type", "default", ""), _rows(schema, "")))
    if rules := list(_rules(schema)):
        parts.append("The API server refuses what breaks one of these:\n\n" + "\n".join(rules))
    parts.append(_columns(version["additionalPrinterColumns"]))
    return "\n\n".join(parts)


def _rows(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str, str]]:
    """The fields, depth first; a list's fields stand under `name[]`."""
    required = schema.get("required", ())
    for name, described in schema.get("properties", {}).items():
        if not path and name in WRITTEN_BY_KUBERNETES:
            continue
        field = f"{path}{name}"
        default = f"`{described['default']}`" if "default" in described else ""
        about = [
            described.get("description", ""),
            "Required." if name in required else "",
            _bounds(described),
        ]
        yield f"`{field}`", _type(described), default, " ".join(filter(None, about))
        inner = described.get("items", described)
        yield from _rows(inner, f"{field}[]." if "items" in described else f"{field}.")


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return code(schema["enum"])
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    return "time" if schema.get("format") == "date-time" else str(schema["type"])


def _bounds(schema: dict[str, Any]) -> str:
    """What else the API server checks, of the field and of a list's entries."""
    own = [text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema]
    items = schema.get("items", {})
    each = [text.format(items[key]) for key, text in _BOUNDS.items() if key in items]
    if each:
        own.append("each " + ", ".join(each))
    return f"({', '.join(own)})" if own else ""


def _rules(schema: dict[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"- {rule['message']}"
    for described in schema.get("properties", {}).values():
        yield from _rules(described)


def _columns(columns: list[dict[str, Any]]) -> str:
    always = [each["name"] for each in columns if not each.get("priority")]
    wide = [each["name"] for each in columns if each.get("priority")]
    return f"Columns of `kubectl get`: {', '.join(always)}" + (
        f"; with `-o wide` also {', '.join(wide)}." if wide else "."
    )
