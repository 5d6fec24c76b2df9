"""Request bodies and query parameters, checked with the words of the real server's schema validator.

Only what the API description says is checked here, and only as deep as it says; the operations check the rest with errors of
their own shape. Of several faults the one nearest the top of the body is named, as the real validator does.
"""

import re
from collections.abc import Iterator

from deploy.dev.anchore.errors import bad_request
from deploy.dev.anchore.wire import Json, JsonObject

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
}

Schema = JsonObject


def object_of(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object; other properties than these are let through."""
    return {"type": "object", "required": required, "properties": properties}


def closed(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object; other properties than these are refused."""
    return {**object_of(required, **properties), "additionalProperties": False}


def array_of(items: Schema) -> Schema:
    """Any number of them."""
    return {"type": "array", "items": items}


STRING: Schema = {"type": "string"}
NULLABLE_STRING: Schema = {"type": "string", "nullable": True}
BOOLEAN: Schema = {"type": "boolean"}
NAME: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9@.!#$+-=^_`~;]{1,126}[a-zA-Z0-9]$"}
_EMAIL_USER = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_EMAIL_HOST = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
BASE64: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9+/=]+$"}

_TAG_SOURCE = {**object_of(("pullstring",), pullstring=STRING, dockerfile=BASE64), "nullable": True}
_DIGEST_SOURCE = {
    **object_of(
        ("pullstring", "tag"),
        pullstring=STRING,
        tag=STRING,
        creation_timestamp_override=STRING,
        dockerfile=BASE64,
    ),
    "nullable": True,
}
IMAGE = object_of(
    dockerfile=BASE64,
    digest=STRING,
    tag=STRING,
    created_at=STRING,
    image_type=STRING,
    annotations={"type": "object"},
    source=object_of(tag=_TAG_SOURCE, digest=_DIGEST_SOURCE),
)

IMAGE_REF = object_of(("type", "value"), type={"enum": ("tag", "digest", "id")}, value=STRING)
_SELECTION = object_of(
    ("name", "registry", "repository", "image"),
    id=STRING,
    name=STRING,
    registry=STRING,
    repository=STRING,
    image=IMAGE_REF,
)
_MAPPING = object_of(
    ("name", "registry", "repository", "image"),
    **_SELECTION["properties"],
    policy_id=STRING,
    policy_ids=array_of(STRING),
    whitelist_ids=array_of(STRING),
)
_RULE = object_of(
    ("gate", "trigger", "action"),
    id=STRING,
    gate=STRING,
    trigger=STRING,
    action={"enum": ("GO", "STOP", "WARN")},
    params=array_of(object_of(("name", "value"), name=STRING, value=STRING)),
)
_POLICY = object_of(
    ("id", "version"), id=STRING, name=STRING, comment=STRING, version=STRING, rules=array_of(_RULE)
)
_ITEM = object_of(("gate", "trigger_id"), id=STRING, gate=STRING, trigger_id=STRING, expires_on=STRING)
_WHITELIST = object_of(
    ("id", "version"), id=STRING, name=STRING, version=STRING, comment=STRING, items=array_of(_ITEM)
)
BUNDLE = object_of(
    ("id", "version", "policies", "mappings"),
    id=STRING,
    name=STRING,
    comment=STRING,
    version=STRING,
    whitelists=array_of(_WHITELIST),
    policies=array_of(_POLICY),
    mappings=array_of(_MAPPING),
    whitelisted_images=array_of(_SELECTION),
    blacklisted_images=array_of(_SELECTION),
)
POLICY_RECORD = object_of(
    created_at=STRING,
    last_updated=STRING,
    policyId=STRING,
    active=BOOLEAN,
    userId=STRING,
    policybundle=BUNDLE,
)
ACCOUNT = object_of(("name",), name=NAME, email={"type": "string", "pattern": f"{_EMAIL_USER}@{_EMAIL_HOST}"})
ACCOUNT_STATE = object_of(state={"type": "string", "enum": ("enabled", "disabled")})
USER = object_of(("username", "password"), username=NAME, password={"type": "string", "pattern": ".{6,128}$"})
CREDENTIAL = object_of(("type", "value"), type={"type": "string", "enum": ("password",)}, value=STRING)
SUBSCRIPTION = object_of(
    subscription_key=STRING, subscription_type=STRING, subscription_value=NULLABLE_STRING
)
SUBSCRIPTION_UPDATE = object_of(active=BOOLEAN, subscription_value=NULLABLE_STRING)
REGISTRY = object_of(
    registry=STRING,
    registry_name=STRING,
    registry_user=STRING,
    registry_pass=STRING,
    registry_type=STRING,
    registry_verify=BOOLEAN,
)


def check_body(body: Json, schema: Schema) -> None:
    """Raises the refusal of the first fault nearest the top."""
    faults = list(_faults(body, schema, ()))
    if faults:
        path, text = min(faults, key=lambda fault: len(fault[0]))
        raise bad_request(f"{text} - '{'.'.join(path)}'" if path else text)


Faults = Iterator[tuple[tuple[str, ...], str]]


def _faults(value: Json, schema: Schema, path: tuple[str, ...]) -> Faults:
    if value is None and schema.get("nullable"):
        return
    kind = schema.get("type")
    if kind is not None and not isinstance(value, _TYPES[kind]):
        yield path, f"{value!r} is not of type '{kind}'"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"{value!r} is not one of {list(schema['enum'])}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield path, f"{value!r} does not match '{schema['pattern']}'"
    yield from _faults_within(value, schema, path)


def _faults_within(value: Json, schema: Schema, path: tuple[str, ...]) -> Faults:
    for name in schema.get("required", ()):
        if name not in value:
            yield path, f"'{name}' is a required property"
    known = schema.get("properties", {})
    if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
        yield path, _surplus(sorted(value.keys() - known.keys()))
    for name, inner in known.items():
        if name in value:
            yield from _faults(value[name], inner, (*path, name))
    if "items" in schema:
        for index, item in enumerate(value):
            yield from _faults(item, schema["items"], (*path, str(index)))


def _surplus(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names)
    verb = "was" if len(names) == 1 else "were"
    return f"Additional properties are not allowed ({shown} {verb} unexpected)"


def read_boolean(name: str, text: str) -> bool:
    """A query parameter that must be true or false."""
    lowered = text.lower()
    if lowered not in {"true", "false"}:
        raise bad_request(f"Wrong type, expected 'boolean' for query parameter '{name}'")
    return lowered == "true"


def read_integer(name: str, text: str) -> int:
    """A query parameter that must be a number."""
    if not re.fullmatch(r"[+-]?\d+", text):
        raise bad_request(f"Wrong type, expected 'integer' for query parameter '{name}'")
    return int(text)


def read_choice(name: str, text: str, choices: tuple[str, ...], description: str) -> str:
    """A query parameter with a fixed set of values; the refusal shows the schema's own text."""
    if text in choices:
        return text
    shown = list(choices)
    raise bad_request(
        f"{text!r} is not one of {shown}\n\nFailed validating 'enum' in schema:\n"
        f"    {{'description': {description!r},\n     'enum': {shown},\n     'in': 'query',\n"
        f"     'name': '{name}',\n     'type': 'string'}}\n\nOn instance:\n    {text!r}"
    )
