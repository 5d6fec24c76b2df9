"""Notifications: what the server tells of a subscribed tag, in the shapes that were recorded.

The payloads are the real ones, not those of the test endpoint, which differ. `show` is what the engine posts; `show_v2` is the
API description's `…Notification`. Guessed there: that the later server posts these shapes at all, the event types (v1's list;
for a moved tag, which has none there, a made-up one), and what of an evaluation stands in a policy_eval.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from deploy.dev.anchore.api_v2 import shapes
from deploy.dev.anchore.catalogue import Vulnerability
from deploy.dev.anchore.records import ImageRecord
from deploy.dev.anchore.wire import JsonObject

KINDS = {
    "analysis_update": "user.image.analysis.completed",
    "policy_eval": "user.checks.tag.policy_evaluation.update",
    "tag_update": "user.checks.tag.update",
    "vuln_update": "user.checks.tag.vulnerabilities.update",
}
"""With the type of event that selectors of API v2 see; each is of level info and about an `image_tag`."""

_REASONS = {"blacklisted": "denylisted", "whitelisted": "allowlisted"}


@dataclass(kw_only=True)
class Notification:
    """One notification of one account."""

    kind: str
    account: str
    email: str | None
    payload: JsonObject
    created: float
    expires: float
    """When it is dropped, delivered or not."""
    last_tried: float = 0.0
    notification_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def show(self) -> JsonObject:
        """The engine's envelope: `tries` is the time of the last one, `max_tries` that of the end."""
        identity = {"notificationId": self.notification_id, "userId": self.account}
        return {
            **self._envelope(),
            "data": self._data({**self.payload, **identity}),
            "dataId": self.notification_id,
            "queueId": self.kind,
            "userId": self.account,
        }

    def show_v2(self) -> JsonObject:
        """The same by the API description of v2."""
        payload = shapes.renamed(self.payload)
        for name in ("curr_eval", "last_eval"):
            if isinstance(payload.get(name), dict):
                payload[name] = _evaluation(payload[name])
        identity = {"account_name": self.account, "notification_id": self.notification_id}
        return {
            **self._envelope(),
            "account_name": self.account,
            "data": self._data({**payload, **identity}),
            "data_id": self.notification_id,
            "queue_id": self.kind,
        }

    def _envelope(self) -> JsonObject:
        return {
            "created_at": int(self.created),
            "last_updated": int(self.last_tried or self.created),
            "max_tries": int(self.expires),
            "record_state_key": "active",
            "record_state_val": None,
            "tries": int(self.last_tried),
        }

    def _data(self, payload: JsonObject) -> JsonObject:
        return {
            "notification_payload": payload,
            "notification_type": self.kind,
            "notification_user": self.account,
            "notification_user_email": self.email or "",
        }


def _evaluation(shown: JsonObject) -> JsonObject:
    if "final_action" not in shown:
        return shapes.renamed(shown)
    kept: JsonObject = {
        name: shown[name] for name in ("final_action", "status", "image_digest") if name in shown
    }
    reason = shown.get("final_action_reason", "policy_evaluation")
    return {**kept, "evaluated_tag": shown.get("tag"), "final_action_reason": _REASONS.get(reason, reason)}


def analysis_update(record: ImageRecord, tag: str) -> JsonObject:
    """The image was analysed."""
    image = {"annotations": record.annotations, "imageDigest": record.image.digest}
    return {
        "annotations": record.annotations,
        "curr_eval": {"analysis_status": "analyzed", **image},
        "last_eval": {"analysis_status": "analyzing", **image},
        "subscription_key": tag,
        "subscription_type": "analysis_update",
    }


def tag_update(annotations: dict[str, str], current: str, last: Sequence[str]) -> JsonObject:
    """The tag names another image; which tag, it doesn't say."""
    return {"annotations": annotations, "curr_eval": [current], "last_eval": list(last)}


def policy_eval(record: ImageRecord, tag: str, current: JsonObject, last: JsonObject) -> JsonObject:
    """The final action changed; both evaluations are whole, with the bundle in them."""
    return {
        "annotations": record.annotations,
        "curr_eval": current,
        "last_eval": last,
        "subscription_key": tag,
        "subscription_type": "policy_eval",
    }


def vuln_update(
    record: ImageRecord, tag: str, before: Iterable[Vulnerability], after: Iterable[Vulnerability]
) -> JsonObject:
    """The findings changed: those that came, went, and those that are told otherwise than before."""
    old, new = _by_package(before), _by_package(after)
    feed = f"{record.image.content.distro}:{record.image.content.distro_version}"
    changed = [new[key] for key in new.keys() & old.keys() if new[key] != old[key]]
    return {
        "diff_vulnerability_result": {
            "added": [_finding(new[key], feed) for key in new if key not in old],
            "removed": [_finding(old[key], feed) for key in old if key not in new],
            "updated": [_finding(finding, feed) for finding in changed],
        },
        "imageDigest": record.image.digest,
        "subscription_key": tag,
        "subscription_type": "vuln_update",
    }


def _by_package(findings: Iterable[Vulnerability]) -> dict[tuple[str, str, str], Vulnerability]:
    return {(finding.id, finding.package, finding.version): finding for finding in findings}


def _finding(finding: Vulnerability, feed: str) -> JsonObject:
    return {
        "CVE_ID": finding.id,
        "Feed": "vulnerabilities",
        "Feed_Group": feed if finding.kind == "os" else f"github:{finding.type}",
        "Fix_Available": finding.fix,
        "Package_Name": finding.package,
        "Package_Type": finding.type,
        "Package_Version": finding.version,
        "Severity": finding.severity,
        "URL": finding.url,
        "Vulnerable_Package": f"{finding.package}-{finding.version}",
    }
