"""Request bodies of API v2, as deep as its description says; unlike v1's, a policy's parts refuse names that they don't know.

So a bundle in v1's spelling is 400 here. Patterns of names are v1's: the later ones allow a space more.
"""

from deploy.dev.anchore.schemas import (
    ACCOUNT,
    ACCOUNT_STATE,
    BASE64,
    BOOLEAN,
    CREDENTIAL,
    IMAGE_REF,
    NAME,
    REGISTRY,
    STRING,
    SUBSCRIPTION,
    SUBSCRIPTION_UPDATE,
    Schema,
    array_of,
    closed,
    object_of,
)

__all__ = [
    "ACCOUNT",
    "ACCOUNT_STATE",
    "CREDENTIAL",
    "ENABLED",
    "IMAGE",
    "POLICY",
    "POLICY_RECORD",
    "REGISTRY",
    "SELECTOR",
    "SUBSCRIPTION",
    "SUBSCRIPTION_UPDATE",
    "USER",
    "WEBHOOK",
]

_NULLABLE_STRING: Schema = {"type": "string", "nullable": True}

_TAG_SOURCE = {**object_of(("pull_string",), pull_string=STRING, dockerfile=BASE64), "nullable": True}
_DIGEST_SOURCE = {
    **object_of(
        ("pull_string", "tag"),
        pull_string=STRING,
        tag=STRING,
        creation_timestamp_override=STRING,
        dockerfile=BASE64,
    ),
    "nullable": True,
}
IMAGE = object_of(
    image_type=STRING,
    annotations={"type": "object"},
    source=object_of(tag=_TAG_SOURCE, digest=_DIGEST_SOURCE),
)

_IMAGE_REF = {**IMAGE_REF, "additionalProperties": False}
_SELECTED = ("id", "name", "registry", "repository", "image")
_SELECTION = closed(
    _SELECTED,
    id=STRING,
    name=STRING,
    registry=STRING,
    repository=STRING,
    image=_IMAGE_REF,
    description=STRING,
)
_MAPPING = closed(
    (*_SELECTED, "rule_set_ids", "allowlist_ids"),
    **_SELECTION["properties"],
    rule_set_ids=array_of(STRING),
    allowlist_ids=array_of(STRING),
)
_SOURCE_MAPPING = closed(
    ("id", "name", "host", "repository", "rule_set_ids", "allowlist_ids"),
    id=STRING,
    name=STRING,
    host=STRING,
    repository=STRING,
    description=STRING,
    rule_set_ids=array_of(STRING),
    allowlist_ids=array_of(STRING),
)
_RULE = closed(
    ("id", "gate", "trigger", "action", "params"),
    id=STRING,
    gate=STRING,
    trigger=STRING,
    action={"type": "string", "enum": ("GO", "STOP", "WARN")},
    description=STRING,
    recommendation=STRING,
    params=array_of(closed(("name", "value"), name=STRING, value=STRING)),
)
_RULE_SET = closed(
    ("id", "name", "version", "rules"),
    id=STRING,
    name=STRING,
    description=STRING,
    version=STRING,
    artifact_type={"type": "string", "enum": ("image", "source")},
    rules=array_of(_RULE),
)
_ITEM = closed(
    ("id", "gate", "trigger_id"),
    id=STRING,
    gate=STRING,
    trigger_id=STRING,
    expires_on=_NULLABLE_STRING,
    description=STRING,
)
_ALLOWLIST = closed(
    ("id", "name", "version", "items"),
    id=STRING,
    name=STRING,
    version=STRING,
    description=STRING,
    items=array_of(_ITEM),
)
POLICY = closed(
    ("id", "name", "version", "rule_sets", "mappings"),
    id=STRING,
    name={"type": "string", "pattern": "."},
    description=STRING,
    version=STRING,
    allowlists=array_of(_ALLOWLIST),
    rule_sets=array_of(_RULE_SET),
    source_mappings=array_of(_SOURCE_MAPPING),
    mappings=array_of(_MAPPING),
    allowlisted_images=array_of(_SELECTION),
    denylisted_images=array_of(_SELECTION),
    last_updated={},
)
POLICY_RECORD = object_of(
    ("account_name", "active", "name", "policy_id", "policy_source"),
    created_at=STRING,
    last_updated=STRING,
    policy_id=STRING,
    active=BOOLEAN,
    account_name=STRING,
    policy_source=STRING,
    policy={**POLICY, "nullable": True},
    name=STRING,
    description=STRING,
)
USER = object_of(
    ("username",),
    username=NAME,
    password={"type": "string", "pattern": ".{6,128}$"},
    user_type={"type": "string", "enum": ("native", "saml")},
    idp_name=STRING,
)
ENABLED = object_of(enabled=BOOLEAN)
WEBHOOK = object_of(
    ("url",),
    url={"type": "string", "pattern": "https?://.*"},
    username=STRING,
    password=STRING,
    verify_ssl=BOOLEAN,
    verify_tls=BOOLEAN,
    description=STRING,
)
SELECTOR = object_of(
    ("event", "scope"),
    scope={"type": "string", "enum": ("global", "account")},
    event=object_of(
        ("level", "resource_type", "type"),
        level={"type": "string", "enum": ("*", "info", "error")},
        resource_type=STRING,
        type={"type": "string", "pattern": "^[a-z0-9-_.*]+$"},
    ),
)
