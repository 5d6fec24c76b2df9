"""docs/reference/messages.md: every message, from the same schemas and channels that asyncapi.yaml is made of."""

import json
from typing import Any

from deploy.dev import message_schemas
from deploy.dev.asyncapi import CHANNELS, HEADERLESS
from deploy.dev.message_schemas import MESSAGES
from deploy.dev.reference.markdown import cell, code, table
from shared.contracts import Message

INTRODUCTION = """\
# Reference: messages

What Moorgate's services and other tools say to one another over NATS, as JSON of at most 256 KiB. How to listen and to ask is in
[integration.md](../integration.md), who may do so in [nats.md](../nats.md). The same for programs: [asyncapi.yaml](../asyncapi.yaml)
(AsyncAPI 3) and a [JSON Schema](../schemas) for each message. A field that has a default may be left out."""

_REF = "#/{name}"


def page() -> str:
    """The page."""
    found = message_schemas.components(_REF)
    messages = {kind.__name__ for kind in MESSAGES}
    parts = [INTRODUCTION, _subjects()]
    parts += [_message(kind, found[kind.__name__]) for kind in MESSAGES]
    parts.append("## What messages are made of")
    parts += [
        f"### {name}\n\n{_about(schema)}\n\n{_fields(schema) if 'properties' in schema else code(schema['enum'])}"
        for name, schema in found.items()
        if name not in messages
    ]
    return "\n\n".join(parts)


def _subjects() -> str:
    rows = [
        (f"`{each.address}`", ", ".join(_link(kind) for kind in each.messages), each.description)
        for each in CHANNELS
    ]
    return "## Subjects\n\n" + table(("subject", "messages", ""), rows)


def _link(kind: type[Message]) -> str:
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def _message(kind: type[Message], schema: dict[str, Any]) -> str:
    headers = (
        "a value in a bucket, without headers"
        if kind in HEADERLESS
        else "with the headers of CloudEvents 1.0"
    )
    name = kind.type_name()
    about = f"`{name}`, {headers}; [schema](../schemas/{name}.json)."
    return f"## {kind.__name__}\n\n{_about(schema)} Type {about}\n\n{_fields(schema)}"


def _about(schema: dict[str, Any]) -> str:
    return cell(schema.get("description", ""))


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", type_of(described), _default(name, described, required), _about(described))
        for name, described in schema["properties"].items()
        if name != "type"
    ]
    return table(("field", "type", "default", ""), rows)


def _default(name: str, described: dict[str, Any], required: Any) -> str:
    if name in required or "default" not in described:
        return "required" if name in required else ""
    return "none" if described["default"] is None else f"`{json.dumps(described['default'])}`"


def type_of(schema: dict[str, Any]) -> str:
    """In a few words, with links to what is told of elsewhere."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/")
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(type_of(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {type_of(schema['additionalProperties'])}"
    if schema.get("format") == "date-time":
        return "time"
    return "base64" if schema.get("contentEncoding") == "base64" else str(schema.get("type", "any"))
