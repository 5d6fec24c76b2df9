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


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


STRING: Schema = {"type": "string"}
NULLABLE_STRING: Schema = {"type": "string", "nullable": True}
BOOLEAN: Schema = {"type": "boolean"}
_NAME: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9@.!#$+-=^_`~;]{1,126}[a-zA-Z0-9]$"}
_EMAIL_USER = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_EMAIL_HOST = r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_BASE64: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9+/=]+$"}

_TAG_SOURCE = {**_object(("pullstring",), pullstring=STRING, dockerfile=_BASE64), "nullable": True}
_DIGEST_SOURCE = {
    **_object(
        ("pullstring", "tag"),
        pullstring=STRING,
        tag=STRING,
        creation_timestamp_override=STRING,
        dockerfile=_BASE64,
    ),
    "nullable": True,
}
IMAGE = _object(
    dockerfile=_BASE64,
    digest=STRING,
    tag=STRING,
    created_at=STRING,
    image_type=STRING,
    annotations={"type": "object"},
    source=_object(tag=_TAG_SOURCE, digest=_DIGEST_SOURCE),
)

_IMAGE_REF = _object(("type", "value"), type={"enum": ("tag", "digest", "id")}, value=STRING)
_SELECTION = _object(
    ("name", "registry", "repository", "image"),
    id=STRING,
    name=STRING,
    registry=STRING,
    repository=STRING,
    image=_IMAGE_REF,
)
_MAPPING = _object(
    ("name", "registry", "repository", "image"),
    **_SELECTION["properties"],
    policy_id=STRING,
    policy_ids=_array(STRING),
    whitelist_ids=_array(STRING),
)
_RULE = _object(
    ("gate", "trigger", "action"),
    id=STRING,
    gate=STRING,
    trigger=STRING,
    action={"enum": ("GO", "STOP", "WARN")},
    params=_array(_object(("name", "value"), name=STRING, value=STRING)),
)
_POLICY = _object(
    ("id", "version"), id=STRING, name=STRING, comment=STRING, version=STRING, rules=_array(_RULE)
)
_ITEM = _object(("gate", "trigger_id"), id=STRING, gate=STRING, trigger_id=STRING, expires_on=STRING)
_WHITELIST = _object(
    ("id", "version"), id=STRING, name=STRING, version=STRING, comment=STRING, items=_array(_ITEM)
)
BUNDLE = _object(
    ("id", "version", "policies", "mappings"),
    id=STRING,
    name=STRING,
    comment=STRING,
    version=STRING,
    whitelists=_array(_WHITELIST),
    policies=_array(_POLICY),
    mappings=_array(_MAPPING),
    whitelisted_images=_array(_SELECTION),
    blacklisted_images=_array(_SELECTION),
)
POLICY_RECORD = _object(
    created_at=STRING,
    last_updated=STRING,
    policyId=STRING,
    active=BOOLEAN,
    userId=STRING,
    policybundle=BUNDLE,
)
ACCOUNT = _object(("name",), name=_NAME, email={"type": "string", "pattern": f"{_EMAIL_USER}@{_EMAIL_HOST}"})
ACCOUNT_STATE = _object(state={"type": "string", "enum": ("enabled", "disabled")})
USER = _object(("username", "password"), username=_NAME, password={"type": "string", "pattern": ".{6,128}$"})
CREDENTIAL = _object(("type", "value"), type={"type": "string", "enum": ("password",)}, value=STRING)
SUBSCRIPTION = _object(subscription_key=STRING, subscription_type=STRING, subscription_value=NULLABLE_STRING)
SUBSCRIPTION_UPDATE = _object(active=BOOLEAN, subscription_value=NULLABLE_STRING)
REGISTRY = _object(
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
    for name, inner in schema.get("properties", {}).items():
        if name in value:
            yield from _faults(value[name], inner, (*path, name))
    if "items" in schema:
        for index, item in enumerate(value):
            yield from _faults(item, schema["items"], (*path, str(index)))


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
