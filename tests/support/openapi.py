"""The API description of Anchore Enterprise, version 2, as a judge: is this body what it says of that operation?

It lies beside the repository, not in it, and is read once. Stricter than the description in one thing: fields that it doesn't
name are faults, so that a name of API v1 can't slip through. A status that it doesn't list for an operation must at least have
the body of its errors.
"""

import functools
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import jsonschema
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.support.recordings import FOLDER

DESCRIPTION = FOLDER.parent / "enterprise-v2.openapi.yaml"

_BASE = "urn:description"
_JSON = "application/json"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ERROR = {"$ref": "#/components/schemas/ApiErrorResponse"}
_NOT_LISTED = 400
"""From here on a status may be missing in the list of an operation."""

_formats = jsonschema.FormatChecker(())


@_formats.checks("date-time", raises=ValueError)
def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@functools.cache
def described() -> "Description | None":
    """None where it is not there."""
    if not DESCRIPTION.exists():
        return None
    with DESCRIPTION.open() as file:
        return Description(yaml.load(file, Loader=_LOADER))


class Description:
    """All operations and schemas."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._paths: dict[str, Any] = document["paths"]
        self._schemas: dict[str, Any] = document["components"]["schemas"]
        contents = {name: self._strict(schema) for name, schema in self._schemas.items()}
        resource = DRAFT202012.create_resource({"components": {"schemas": contents}})
        self._registry = Registry().with_resource(_BASE, resource)

    def faults_in_answer(self, method: str, path: str, status: int, body: object) -> list[str]:
        """An empty list for an answer as described; a body of None is one that isn't there."""
        responses = self.operation(method, path)["responses"]
        if status not in responses:
            assert status >= _NOT_LISTED, f"{method} {path} is not described to answer {status}"
            return self.faults(_ERROR, body)
        content = responses[status].get("content")
        if not content:
            return [] if body is None else [f"{method} {path} must have no body, not {body!r}"]
        return self.faults(content[_JSON]["schema"], body)

    def faults_in_request(self, method: str, path: str, query: dict[str, str], body: object) -> list[str]:
        """What a client asks: its parameters' names and its body."""
        operation = self.operation(method, path)
        known = {item["name"] for item in operation.get("parameters", []) if item.get("in") == "query"}
        surplus = [f"{name} is no parameter of {method} {path}" for name in query.keys() - known]
        content = operation.get("requestBody", {}).get("content")
        if body is None or content is None:
            return surplus
        return [*surplus, *self.faults(content[_JSON]["schema"], body)]

    def faults_in(self, schema: str, body: object) -> list[str]:
        """Against one schema by its name."""
        return self.faults({"$ref": f"#/components/schemas/{schema}"}, body)

    def faults(self, schema: dict[str, Any], body: object) -> list[str]:
        """Against a schema of the description."""
        validator = Draft202012Validator(
            self._strict(schema), registry=self._registry, format_checker=_formats
        )
        return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(body)]

    def operation(self, method: str, path: str) -> dict[str, Any]:
        """The description of one; raises LookupError."""
        shown = path.removeprefix("/v2") or "/"
        for template, operations in self._paths.items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), shown) and method.lower() in operations:
                found: dict[str, Any] = operations[method.lower()]
                return found
        raise LookupError(f"{method} {path} is not described")

    def _strict(self, schema: Any) -> Any:
        """OpenAPI 3.0's dialect as JSON Schema, objects closed."""
        if isinstance(schema, list):
            return [self._strict(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            return {"$ref": f"{_BASE}#{schema['$ref'].rpartition('#')[2]}"}
        if "allOf" in schema:
            return self._strict(self._merged(schema))
        made = {name: self._strict_part(name, value) for name, value in schema.items() if name != "nullable"}
        if made.get("properties") and "additionalProperties" not in made:
            made["additionalProperties"] = False
        return {"anyOf": [{"type": "null"}, made]} if schema.get("nullable") else made

    def _strict_part(self, name: str, value: Any) -> Any:
        if name == "properties":
            return {key: self._strict(inner) for key, inner in value.items()}
        return value if name in {"enum", "required", "example", "default"} else self._strict(value)

    def _merged(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The members of an `allOf` as one object, so that it can be closed."""
        properties: dict[str, Any] = {}
        required: list[str] = []
        for member in self._members(schema):
            properties |= member.get("properties", {})
            required += member.get("required", [])
        return {"type": "object", "properties": properties, "required": required}

    def _members(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in schema:
            yield from self._members(self._schemas[schema["$ref"].rpartition("/")[2]])
        elif "allOf" in schema:
            for member in schema["allOf"]:
                yield from self._members(member)
        else:
            yield schema
