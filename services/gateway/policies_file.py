"""ImagePolicies from a file, for a gateway without a cluster: the manifests that `kubectl apply` would take.

    one or more documents, each an ImagePolicy or a List of them

The API server's part is done here: what the CRD refuses is refused, with one line that names file, document and field.
So is what only a cluster can tell: namespaces have no labels but their name, and nothing is known to run. A fault at the
start stops the process; later it changes nothing but a warning, like a slip of the pen in the tenants' file.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from services.gateway.image_policies import ImagePolicy
from services.gateway.namespaces import NAME_LABEL
from shared import yaml_files
from shared.contracts import Mode
from shared.crds import API_VERSION, MAX_NAME
from shared.errors import BadSetting
from shared.objects import ObjectMeta
from shared.policies import OnError, OnPending, Operator, PolicySpec, compile_policy

SETTING = "MOORGATE_POLICIES_FILE"

KIND = "ImagePolicy"
LISTS = {("v1", "List"), (API_VERSION, "ImagePolicyList")}

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)

_T = TypeVar("_T")

LabelValue = Annotated[str, Meta(max_length=63)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """As the CRD has it (a test holds the two against one another); an unknown field is a typing error."""


class _Requirement(_Strict, frozen=True, kw_only=True):
    key: Annotated[str, Meta(min_length=1, max_length=317)]
    operator: Operator
    values: Annotated[tuple[LabelValue, ...], Meta(max_length=256)] = ()


class _Selector(_Strict, frozen=True, kw_only=True):
    match_labels: Annotated[dict[str, LabelValue], Meta(max_length=64)] = {}
    match_expressions: Annotated[tuple[_Requirement, ...], Meta(max_length=64)] = ()


class Spec(_Strict, frozen=True, kw_only=True):
    """What an ImagePolicy may say."""

    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] = 0
    namespace_selector: _Selector = _Selector()
    images: Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=256)] = ()
    mode: Mode = Mode.ENFORCE
    policy_bundle: Annotated[str, Meta(max_length=256)] = ""
    tenant: Annotated[str, Meta(pattern="^[a-z0-9-]{1,40}$")] = "default"
    on_pending: OnPending = OnPending.RETRY
    on_error: OnError = OnError.DENY
    incumbent_grace: Annotated[str, Meta(max_length=32)] = ""


class _Metadata(msgspec.Struct, frozen=True):
    """Of what an API server adds nothing counts, so that an exported policy is taken as it is."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]


class _Manifest(_Strict, frozen=True, kw_only=True):
    api_version: str
    kind: str
    metadata: _Metadata
    spec: Spec
    status: Any = None


class _Kind(msgspec.Struct, frozen=True, rename="camel"):
    """Enough to tell a policy from a list, and from what has no place here."""

    api_version: str
    kind: str


class _Items(_Strict, frozen=True, kw_only=True):
    api_version: str
    kind: str
    items: list[Any]
    metadata: Any = None


def read(path: Path) -> list[ImagePolicy]:
    """The file's policies, as an API server would give them. Raises `BadSetting` with the line to show."""
    found: dict[str, ImagePolicy] = {}
    for where, manifest in _manifests(path):
        policy = _policy(where, manifest)
        name = policy.metadata.name
        if name in found:
            raise BadSetting(
                f"{where}: metadata.name: there is another policy {name!r}: names are given once"
            )
        found[name] = policy
    return list(found.values())


def _manifests(path: Path) -> Iterator[tuple[str, Any]]:
    """What is to be a policy, with where it stands; documents are counted from 1."""
    for number, document in enumerate(yaml_files.documents(SETTING, path), 1):
        where = f"{SETTING}: {path}: document {number}"
        if document is None:
            continue
        head = _convert(where, document, _Kind)
        if (head.api_version, head.kind) not in LISTS:
            yield where, document
            continue
        for place, item in enumerate(_convert(where, document, _Items).items, 1):
            yield f"{where}, item {place}", item


def _policy(where: str, manifest: Any) -> ImagePolicy:
    head = _convert(where, manifest, _Kind)
    if (head.api_version, head.kind) != (API_VERSION, KIND):
        raise BadSetting(
            f"{where}: apiVersion and kind are {head.api_version[:60]!r} and {head.kind[:60]!r}:"
            f" they must be {API_VERSION} and {KIND}"
        )
    if isinstance(manifest.get("spec"), dict) and manifest["spec"].get("mode") is False:
        raise BadSetting(f'{where}: spec.mode: YAML reads off as false: write "off" in quotes')
    checked = _convert(where, manifest, _Manifest)
    name = checked.metadata.name
    if not _NAME.fullmatch(name):
        raise BadSetting(
            f"{where}: metadata.name is {name[:60]!r}: it must be of a-z, 0-9, - and . as names in Kubernetes are"
        )
    where = f"{where} ({name})"
    _check_without_cluster(where, checked.spec)
    raw = msgspec.json.encode(checked.spec)
    if finding := compile_policy(name, msgspec.json.decode(raw, type=PolicySpec)).finding:
        raise BadSetting(f"{where}: spec: {finding.message}")
    return ImagePolicy(metadata=ObjectMeta(name=name), spec=msgspec.Raw(raw))


def _check_without_cluster(where: str, spec: Spec) -> None:
    selector = spec.namespace_selector
    for field, keys in (
        ("matchLabels", tuple(selector.match_labels)),
        ("matchExpressions", tuple(each.key for each in selector.match_expressions)),
    ):
        if other := next((key for key in keys if key != NAME_LABEL), None):
            raise BadSetting(
                f"{where}: spec.namespaceSelector.{field}: {other[:60]!r} cannot be looked up without a cluster:"
                f" only {NAME_LABEL} can be selected by"
            )
    if spec.incumbent_grace:
        raise BadSetting(
            f"{where}: spec.incumbentGrace: nothing is known to run without a cluster: remove it"
        )


def _convert(where: str, value: Any, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise BadSetting(f"{where}: {error}") from error
