"""The gate `vulnerabilities`: findings in packages, and what it says when the feeds are missing or old."""

import hashlib
import operator
import re
from collections.abc import Callable

from deploy.dev.anchore.catalogue import Vulnerability
from deploy.dev.anchore.evaluation.subject import Match, Subject

Params = dict[str, str]

SEVERITIES = ["unknown", "negligible", "low", "medium", "high", "critical"]

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}

_DAY = 86400


def _match(trigger: str, message: str) -> Match:
    named = hashlib.md5(f"vulnerabilities{trigger}{message}".encode(), usedforsecurity=False)
    return Match(named.hexdigest(), message)


def package(subject: Subject, params: Params) -> list[Match]:
    """One match a finding that meets all of the rule's conditions."""
    found = [finding for finding in subject.vulnerabilities if _is_meant(finding, params)]
    return [Match(f"{finding.id}+{finding.package}", _describe(finding)) for finding in found]


def _is_meant(finding: Vulnerability, params: Params) -> bool:
    compare = COMPARISONS[params.get("severity_comparison", ">")]
    wanted = SEVERITIES.index(params.get("severity", "unknown").lower())
    if not compare(SEVERITIES.index(finding.severity.lower()), wanted):
        return False
    if params.get("package_type", "all") not in {"all", finding.kind}:
        return False
    fix_available = params.get("fix_available")
    if fix_available is not None and (fix_available.lower() == "true") != (finding.fix != "None"):
        return False
    excluded = params.get("package_path_exclude")
    return not (excluded and re.match(excluded, finding.path))


def _describe(finding: Vulnerability) -> str:
    fixed = f"(fixed in: {finding.fix})" if finding.fix != "None" else ""
    where = finding.package if finding.kind == "os" else finding.path
    return (
        f"{finding.severity.upper()} Vulnerability found in {finding.kind} package type ({finding.type}) - "
        f"{where} {fixed}({finding.id} - {finding.url})"
    )


def stale_feed_data(subject: Subject, params: Params) -> list[Match]:
    """Fires for a feed that is too old, and for one that isn't there."""
    days = int(params["max_days_since_sync"])
    synced = subject.feed_synced_at
    if synced is not None and synced >= subject.now - days * _DAY:
        return []
    return [
        _match(
            "stale_feed_data",
            f"The vulnerability feed for this image distro is older than MAXAGE ({days}) days",
        )
    ]


def vulnerability_data_unavailable(subject: Subject, _params: Params) -> list[Match]:
    """Fires when the image's distribution has no feed."""
    if subject.feed_synced_at is not None:
        return []
    text = (
        f"Distro-specific feed data not found for distro namespace: {subject.distro}. "
        "Cannot perform CVE scan OS/distro packages"
    )
    return [_match("vulnerability_data_unavailable", text)]


def blacklist(subject: Subject, params: Params) -> list[Match]:
    """Fires once, naming all listed findings that are there."""
    listed = [item.strip() for item in params["vulnerability_ids"].split(",")]
    found = [item for item in listed if any(finding.id == item for finding in subject.vulnerabilities)]
    return [_match("blacklist", f"Blacklisted vulnerabilities detected: {found}")] if found else []
