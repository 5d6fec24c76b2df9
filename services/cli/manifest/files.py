"""Manifests as `kubectl apply` takes them: files, folders and stdin, several documents each, and Lists in them.

Workloads are read by the code that gateways read admissions with. What brings no image is passed over; what can be no
manifest is one line that names file and document, since a pipeline that reads half of them would say yes to the rest.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from services.gateway.admission import AdmissionRequest, BadReview, GroupVersionKind
from services.gateway.workloads import Workload, extract
from shared import yaml_files
from shared.errors import BadSetting

MAX_BYTES = 16 * 1024 * 1024
"""Of one file."""

MAX_NODES = 200_000
"""Values of one document: aliases of aliases make any number of them from a few lines."""

STDIN, DEVICE = "-", Path("/dev/stdin")
_SUFFIXES = {".yaml", ".yml", ".json"}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A workload, and where it was found."""

    where: str
    """`deploy.yaml, document 2`."""
    workload: Workload


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in the files."""

    manifests: tuple[Manifest, ...]
    namespaces: dict[str, dict[str, str]]
    """Labels of the namespaces that would be made with them."""


class _Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None


class _Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    api_version: str
    kind: str
    metadata: _Metadata = _Metadata()
    items: list[Any] | None = None


def read(names: tuple[str, ...], namespace: str) -> Found:
    """All manifests; `namespace` is that of those which name none. Raises `BadSetting` with the place at fault."""
    if not names:
        raise BadSetting("name a file, a folder, or - for stdin: moorgate manifest check deploy/")
    manifests: list[Manifest] = []
    namespaces: dict[str, dict[str, str]] = {}
    for path in _paths(names):
        for where, content in _documents(path):
            head = _convert(where, content)
            if (head.api_version, head.kind) == ("v1", "Namespace"):
                namespaces[head.metadata.name] = head.metadata.labels or {}
            elif workload := _workload(where, head, content, namespace):
                manifests.append(Manifest(where=where, workload=workload))
    return Found(manifests=tuple(manifests), namespaces=namespaces)


def _paths(names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        if name.startswith("-") and name != STDIN:
            raise BadSetting(f"unknown option {name}; a file of such a name is ./{name}")
        path = DEVICE if name == STDIN else Path(name)
        if not path.is_dir():
            yield path
            continue
        found = sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file())
        if not found:
            raise BadSetting(f"{path}: there is no *.yaml, *.yml or *.json in this folder")
        yield from found


def _documents(path: Path) -> Iterator[tuple[str, Any]]:
    """Each object with where it stands; documents are counted from 1."""
    shown = "stdin" if path == DEVICE else str(path)
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise BadSetting(f"{shown} has more than {MAX_BYTES} bytes: give the manifests alone")
    for number, content in enumerate(yaml_files.documents("manifest", path), 1):
        if content is not None:
            yield from _objects(f"{shown}, document {number}", content)


def _objects(where: str, content: Any) -> Iterator[tuple[str, Any]]:
    head = _convert(where, content)
    if head.items is None or not head.kind.endswith("List"):
        yield where, content
        return
    for place, item in enumerate(head.items, 1):
        yield from _objects(f"{where}, item {place}", item)


def _convert(where: str, content: Any) -> _Object:
    try:
        return msgspec.convert(content, _Object)
    except msgspec.ValidationError as error:
        raise BadSetting(f"{where} is no manifest: {error}") from error


def _workload(where: str, head: _Object, content: Any, namespace: str) -> Workload | None:
    group = head.api_version.rpartition("/")[0]
    request = AdmissionRequest(
        uid="manifest",
        kind=GroupVersionKind(group=group, kind=head.kind),
        operation="CREATE",
        namespace=head.metadata.namespace or namespace,
        object=msgspec.Raw(_encoded(where, content)),
    )
    try:
        workload = extract(request)
    except BadReview as error:
        raise BadSetting(f"{where}: {error}") from error
    return workload if workload and workload.images else None


def _encoded(where: str, content: Any) -> bytes:
    """As JSON, unless it would have no end."""
    left = MAX_NODES
    waiting = [content]
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            raise BadSetting(
                f"{where} has more than {MAX_NODES} values, its aliases counted each time: write it out"
            )
        if isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    try:
        return msgspec.json.encode(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadSetting(
            f"{where} holds what no manifest can hold: {type(error).__name__} {error}"
        ) from error
