"""How values look on the wire: JSON bodies and the three ways in which Anchore writes times.

Anchore sorts the keys of every object. Images, policies and accounts carry times as whole seconds with a Z, subscriptions
and summaries as epoch integers, events as microseconds with a Z.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec

Json = Any
"""Any JSON value; bundles and records are passed through as they came, so no narrower type would be true."""

JsonObject = dict[str, Any]

NAME = "moorgate-anchore-simulator"
"""What every answer's Server header says."""


def encode(body: Json) -> bytes:
    """JSON with sorted keys and the newline at the end that Flask adds."""
    return msgspec.json.encode(body, order="sorted") + b"\n"


def whole_seconds(moment: float) -> str:
    """`2026-11-23T14:58:44Z`."""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def optional_seconds(moment: float | None) -> str | None:
    """The same, or null for what has not happened yet."""
    return None if moment is None else whole_seconds(moment)


def microseconds(moment: float) -> str:
    """`2026-11-23T15:07:11.147938Z`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
