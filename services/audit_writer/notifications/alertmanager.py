"""A flip as an alert of Alertmanager's API v2: firing from the flip to fail, resolved by the flip to pass.

Alertmanager knows an alert by its labels alone, so these hold only what both flips share: not the
digest, bundle or tenant, which a moved tag or another policy changes. An alert posted without an end is
resolved after `resolve_timeout` (5 minutes) unless it is posted again and again. Moorgate posts once,
with an end far ahead: repeating would need a memory of what fires. The end is bounded, because no flip
comes back for what was deleted meanwhile.

Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml (postAlerts).
"""

from datetime import timedelta

import msgspec

from services.audit_writer.notifications.targets import Target
from services.audit_writer.notifications.text import clean, fit, notice, plain
from shared.contracts import Result, VerdictFlipped

ALERT = "MoorgateImageFails"
"""`alertname`, what routes match."""

PATH = "/api/v2/alerts"

MAX_LABEL = 1024
"""Characters of a label: an image reference has no more."""

MAX_DESCRIPTION = 4000


def url(base: str) -> str:
    """Where to post, given Alertmanager's own address (with its route prefix, if it has one)."""
    return base.rstrip("/").removesuffix(PATH) + PATH


def body(event: VerdictFlipped, target: Target) -> bytes:
    """The JSON to post: a list of one alert."""
    said = notice(event, target.cluster, plain)
    alert: dict[str, object] = {
        "labels": _labels(event, target),
        "annotations": {
            "summary": said.headline,
            "description": fit(said.lines, MAX_DESCRIPTION),
            "digest": clean(event.digest, MAX_LABEL),
            "cause": event.cause.value,
        },
    }
    if event.result is Result.FAIL:
        alert |= {
            "startsAt": event.flipped_at,
            "endsAt": event.flipped_at + timedelta(seconds=target.fires_for),
        }
    else:
        alert["endsAt"] = event.flipped_at  # Alertmanager keeps the start it knows
    return msgspec.json.encode([alert])


def _labels(event: VerdictFlipped, target: Target) -> dict[str, str]:
    cluster = {"cluster": target.cluster} if target.cluster else {}
    named = {"namespace": event.namespace, "release": event.release, "image": event.image}
    ours = {name: clean(text, MAX_LABEL) for name, text in named.items()}
    return {"severity": "warning", **target.labels, **cluster, "alertname": ALERT, **ours}
