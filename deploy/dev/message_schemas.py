"""JSON Schemas of the messages, made from the Structs: what a field may hold, and what it means.

The meanings are the docstrings beneath the fields, read from the source: msgspec keeps none of them.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from shared import contracts
from shared.contracts import Message, VerdictRequest, dead_letters, decisions, flips, questions, scans
from shared.messages import MAX_MESSAGE_BYTES

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODULES: tuple[ModuleType, ...] = (scans, decisions, flips, questions, dead_letters)

MESSAGES: tuple[type[Message], ...] = (
    contracts.ScanRequest,
    contracts.Verdict,
    contracts.ScanPending,
    contracts.ScanError,
    contracts.TenantRecord,
    contracts.RunningDigest,
    contracts.AdmissionDecided,
    contracts.VerdictFlipped,
    contracts.VerdictRequest,
    contracts.VerdictAnswer,
    contracts.DeadLetter,
)
"""Every message, in the order they are told of."""


def components(ref_template: str) -> dict[str, Any]:
    """The schema of each message, and of what they are made of, by class name."""
    _, found = msgspec.json.schema_components(MESSAGES, ref_template=ref_template)
    meanings = dict(_meanings())
    for name, schema in found.items():
        for field, described in schema.get("properties", {}).items():
            if meaning := meanings.get((name, field)):
                described["description"] = meaning
    # What is asked by hand may leave its type out.
    found[VerdictRequest.__name__]["required"].remove("type")
    return found


def files() -> dict[Path, str]:
    """Every schema file with its content: one a message, complete in itself."""
    found = components("#/$defs/{name}")
    return {SCHEMAS / f"{kind.type_name()}.json": _file(kind, found) for kind in MESSAGES}


def _file(kind: type[Message], found: dict[str, Any]) -> str:
    names = list(_needed(kind.__name__, found))
    document = {
        "$schema": DIALECT,
        "title": kind.type_name(),
        "$comment": f"At most {MAX_MESSAGE_BYTES} bytes. Made from shared/contracts by `make docs`.",
        "$ref": f"#/$defs/{kind.__name__}",
        "$defs": {name: found[name] for name in names},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _needed(name: str, found: dict[str, Any], seen: set[str] | None = None) -> Iterator[str]:
    """The schema and all it refers to."""
    seen = set() if seen is None else seen
    seen.add(name)
    yield name
    text = json.dumps(found[name])
    for other in found:
        if other not in seen and f'"#/$defs/{other}"' in text:
            yield from _needed(other, found, seen)


def _meanings() -> Iterator[tuple[tuple[str, str], str]]:
    """The docstring beneath each field, by class and the field's name on the wire."""
    for module in MODULES:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef) and issubclass(
                kind := getattr(module, node.name), msgspec.Struct
            ):
                fields = _wire_names(kind)
                for stated, text in zip(node.body, node.body[1:], strict=False):
                    if not isinstance(stated, ast.AnnAssign) or not isinstance(stated.target, ast.Name):
                        continue
                    if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                        meaning = " ".join(str(text.value.value).split())
                        yield (node.name, fields[stated.target.id]), meaning


def _wire_names(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
