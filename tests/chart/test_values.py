"""The values: a closed schema, no value without an effect, and nothing of the original chart taken silently.

For the effect each value in values.yaml is changed, one at a time, beside sets of values in which it can matter, and
something that is rendered must change with it.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.dev.helm import CHART, HelmError, Release
from tests.support import chart
from tests.support.chart import Json, defaults, values_of

SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text())
Draft7 = jsonschema.Draft7Validator

IDEAS: tuple[Any, ...] = (
    *(
        "other",
        "7m",
        "7/min",
        "https://other.example:1",
        "nats://other.example:1",
        "9Gi",
        f"sha256:{'1' * 64}",
        "1m",
    ),
    *("debug", "True"),
    *(["other"], [{"name": "other"}], [{"other": "other"}], [4711], [{"name": "OTHER", "value": "other"}]),
    *([{"apiGroup": "other.example", "resources": ["others"]}], [{"name": "other", "expression": "true"}]),
    *([{"namespace": "other", "name": "other"}], [{"key": "other", "operator": "Exists"}]),
    *({"other": "other"}, {"other": {"other": "other"}}, {"other.json": "{}"}),
    {"other": {"url": "https://other.example", "username": "other", "passwordFile": "other"}},
    {"targets": [{"name": "other", "type": "slack", "urlFile": "slack-url"}]},
    {"cpu": "7", "memory": "7Gi"},
    [{"podSelector": {}}],
)
"""What a value may be changed to: the first that the schema takes."""

OFTEN: tuple[Json, ...] = (values_of("everything"), values_of("existing-nats"), values_of("cert-manager"))
"""Beside what a value is changed."""

SELDOM: dict[str, Json] = {
    "tls.existingSecret": values_of("tenants"),
    "tls.caSecret": values_of("tenants"),
    "tls.caKey": values_of("tenants"),
    "nats.credsSecret": values_of("nats-creds"),
    "nats.ca.secret": values_of("nats-creds"),
    "bootstrap.anchore.adminSecret": values_of("minimal"),
}
"""For values that mean something only there, or that contradict the others."""

ORIGINAL: tuple[Json, ...] = (
    {"replicaCount": 2},
    {"logVerbosity": 1},
    {"apiService": {"group": "admission.anchore.io"}},
    {"service": {"externalPort": 443}},
    {"externalAnchore": {"anchoreHost": "http://anchore:8228/v1/"}},
    {"resources": {"limits": {"memory": "64Mi"}}},
    {"namespaceSelector": {"matchLabels": {"scan": "true"}}},
    {"objectSelector": {"matchLabels": {"scan": "true"}}},
    {"nodeSelector": {"disk": "ssd"}},
    {"affinity": {"nodeAffinity": {}}},
    {"tolerations": [{"operator": "Exists"}]},
    {"rbac": {"enabled": True}},
    {"createPolicies": True},
    {"config": {"app": {"cacheTTL": "6h"}}},
)
"""Values of the Anchore Image Validator's chart."""


def _leaves(values: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


LEAVES = {".".join(path): path for path in _leaves(defaults())}


def _schema_at(path: tuple[str, ...]) -> Json:
    found = SCHEMA
    for key in path:
        found = _resolved(found)
        properties = found.get("properties", {})
        found = properties.get(key, found.get("additionalProperties", {}))
        found = found if isinstance(found, dict) else {}
    return _resolved(found)


def _resolved(schema: Json) -> Json:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = SCHEMA
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return _resolved(found)


def _others(path: tuple[str, ...], now: Any) -> Iterator[Any]:
    """Values that the schema takes there, other than `now`."""
    schema = {**_schema_at(path), "$defs": SCHEMA["$defs"]}
    ideas = [*schema.get("enum", []), *IDEAS]
    if isinstance(now, bool):
        ideas = [not now]
    elif isinstance(now, int):
        ideas = [*schema.get("enum", []), now + 1, now - 1]
    yield from (each for each in ideas if each != now and Draft7(schema).is_valid(each))


def _at(values: Json, path: tuple[str, ...]) -> Any:
    found: Any = values
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _with(values: Json, path: tuple[str, ...], value: Any) -> Json:
    changed = deepcopy(values)
    place = changed
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    return changed


@cache
def _text(values: str) -> str:
    """All that is rendered, in order."""
    return json.dumps(Release(values=json.loads(values)).template())


def _has_effect(name: str) -> bool:
    path = LEAVES[name]
    for beside in [SELDOM[name]] if name in SELDOM else OFTEN:
        now = _at(beside, path)
        now = _at(defaults(), path) if now is None else now
        for value in list(_others(path, now))[:2]:
            try:
                changed = _text(json.dumps(_with(beside, path, value)))
            except HelmError as error:
                if "values don't meet" in str(error):
                    raise
                continue  # it contradicts another: that too was noticed, but proves no effect
            if changed != _text(json.dumps(beside)):
                return True
    return False


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_no_value_is_without_effect() -> None:
    with ThreadPoolExecutor(2) as pool:
        effects = dict(zip(LEAVES, pool.map(_has_effect, LEAVES), strict=True))
    assert [name for name, effect in effects.items() if not effect] == []


def test_every_value_has_its_place_in_the_schema() -> None:
    assert [name for name, path in LEAVES.items() if not _schema_at(path)] == []


def test_every_place_in_the_schema_is_a_value() -> None:
    """A value that values.yaml does not show is one that nobody finds."""
    known = set(LEAVES)

    def missing(schema: Json, path: tuple[str, ...]) -> Iterator[str]:
        for key, inner in schema.get("properties", {}).items():
            name = ".".join((*path, key))
            if name in known or name == "global":
                continue
            if not any(each.startswith(f"{name}.") for each in known):
                yield name
            else:
                yield from missing(_resolved(inner), (*path, key))

    assert list(missing(SCHEMA, ())) == []


def test_the_schema_is_closed_wherever_it_names_keys() -> None:
    Draft7.check_schema(SCHEMA)

    def open_ones(node: Any, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties") is not False:
                yield path
            for key, value in node.items():
                if key not in ("if", "then", "else"):  # about some keys of a shape, no shape
                    yield from open_ones(value, f"{path}/{key}")

    assert list(open_ones(SCHEMA, "")) == []


@pytest.mark.parametrize("values", chart.SETS)
def test_the_sets_of_values_are_valid_by_the_schema_alone(values: str) -> None:
    """Helm and this validator are told the same."""
    Draft7(SCHEMA).validate(json.loads(json.dumps(values_of(values))))


@pytest.mark.parametrize("values", ORIGINAL, ids=lambda values: next(iter(values)))
def test_the_original_charts_values_are_refused_by_name(values: Json) -> None:
    (name,) = values
    with pytest.raises(HelmError, match=f"additional properties '{name}' not allowed"):
        Release(values={"anchore": {"url": "http://anchore:8228"}, **values}).template()


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ("gateway: {replica: 2}", "'replica' not allowed"),
        ("gateway: {maxWait: 3}", "/gateway/maxWait"),
        ("gateway: {maxWait: 3 s}", "/gateway/maxWait"),
        ("policy: {mode: Audit}", "/policy/mode"),
        ("anchore: {url: anchore.example}", "/anchore/url"),
        ("anchore: {url: 'https://user:secret@anchore.example'}", "/anchore/url"),
        ("image: {tag: latest}", "/image/tag"),
        ("nats: {builtin: {replicas: 2}}", "/nats/builtin/replicas"),
        ("tenants: {inline: {a: {url: u, username: a, password: secret}}}", "'password' not allowed"),
        ("notify: {inline: {targets: [{name: a, type: mail}]}}", "type"),
        ("scanner: {extraEnv: [{value: a}]}", "/scanner/extraEnv"),
        ("scanner: {pendingLimit: 3h}", "/scanner/pendingLimit"),
        ("gateway: {replicas: 0}", "/gateway/replicas"),
        ("gateway: {podLabels: {app.kubernetes.io/name: other}}", "/gateway/podLabels"),
        ("commonLabels: {helm.sh/chart: other}", "/commonLabels"),
        ("networkPolicy: {anchoreTo: [{ipblock: {cidr: 10.0.0.0/8}}]}", "'ipblock' not allowed"),
        ("nats: {builtin: {persistence: {size: 1Gi}}}", "/nats/builtin/persistence/size"),
        (
            "webhooks: {matchConditions: [{name: images-changed, expression: 'true'}]}",
            "/webhooks/matchConditions",
        ),
        ("bootstrap: {bundles: {files: {bootstrap.yaml: '{}'}}}", "/bootstrap/bundles/files"),
        (
            "tenants: {inline: {a: {url: 'https://u:p@x', username: a, passwordFile: p}}}",
            "/tenants/inline/a/url",
        ),
        (
            "notify: {inline: {targets: [{name: a, type: slack, url: 'https://hooks.example'}]}}",
            "/notify/inline",
        ),
        (
            "notify: {inline: {targets: [{name: a, type: webhook, url: 'https://u:p@x/hook'}]}}",
            "/notify/inline",
        ),
        ("fullnameOverride: a.b", "/fullnameOverride"),
        ("commonLabels: {security.banzaicloud.com/inject-ca: other}", "/commonLabels"),
        ("networkPolicy: {natsClients: [{podSelector: {matchlabels: {a: b}}}]}", "'matchlabels' not allowed"),
        (
            "webhooks: {namespaceSelector: {matchExpressions: [{key: env, operator: NotIn}]}}",
            "/webhooks/namespaceSelector",
        ),
        (
            "webhooks: {namespaceSelector: {matchExpressions: [{key: env, operator: Exists, values: [a]}]}}",
            "/webhooks/namespaceSelector",
        ),
        (
            'webhooks: {namespaceSelector: {matchLabels: {"it\'s": a}}}',
            "/webhooks/namespaceSelector/matchLabels",
        ),
        ('guards: {namespaces: {labels: ["it\'s"]}}', "/guards/namespaces/labels"),
        ("nats: {builtin: {persistence: {storageClass: 'a b'}}}", "/nats/builtin/persistence/storageClass"),
        ("gateway: {outbox: {storageClass: '-'}}", "/gateway/outbox/storageClass"),
    ],
)
def test_what_is_mistyped_is_refused_and_named(values: str, fault: str) -> None:
    with pytest.raises(HelmError, match=fault):
        Release(values=yaml.safe_load(values)).template()
