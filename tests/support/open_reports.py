"""The API of OpenReports, for clusters of the tests."""

from typing import Any

NAME = "reports.openreports.io"


def _objects(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def report_crd() -> dict[str, Any]:
    """As much of the API as Moorgate uses, closed: an unknown field would show as a warning and be dropped."""
    text, number, texts = {"type": "string"}, {"type": "integer"}, {"type": "object"}
    result = _objects(
        source=text,
        policy=text,
        rule=text,
        category=text,
        severity={"type": "string", "enum": ["critical", "high", "low", "medium", "info"]},
        timestamp=_objects(seconds={"type": "integer", "format": "int64"}, nanos=number),
        result={"type": "string", "enum": ["pass", "fail", "warn", "error", "skip"]},
        scored={"type": "boolean"},
        message=text,
        properties={**texts, "additionalProperties": text},
    )
    schema = _objects(
        source=text,
        scope=_objects(apiVersion=text, kind=text, name=text, namespace=text, uid=text),
        summary=_objects(**dict.fromkeys(("pass", "fail", "warn", "error", "skip"), number)),
        results={"type": "array", "items": {**result, "required": ["policy"]}},
    )
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": "openreports.io",
            "scope": "Namespaced",
            "names": {"kind": "Report", "listKind": "ReportList", "plural": "reports", "singular": "report"},
            "versions": [version],
        },
    }
