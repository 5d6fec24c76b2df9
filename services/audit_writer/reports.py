"""An Audit as an OpenReports Report (`openreports.io/v1alpha1`), for dashboards that know nothing of Audits.

One result an image, the ones that matter most first, and no more than `MAX_RESULTS`; the summary counts all.
What failed and was let in all the same (whitelisted, in grace) is a `warn`: the requirement is not met, and
does not count. The Report belongs to the workload, or else to the Audit, and goes with it. Pure, like audit.py.

Source: https://github.com/openreports/reports-api (apis/openreports.io/v1alpha1)
"""

import re
from collections import Counter
from datetime import datetime

import msgspec

from services.audit_writer.limits import cut
from services.audit_writer.spec import sentence_of
from services.audit_writer.summary import finding, weight
from shared.contracts import Outcome
from shared.crds import API_VERSION as AUDIT_VERSION
from shared.crds import Audit, AuditImage, OwnerReference

API_VERSION = "openreports.io/v1alpha1"
SOURCE = "moorgate"

MAX_RESULTS, MAX_FINDINGS, MAX_TEXT = 50, 10, 256
"""Images of a Report, findings named of an image, bytes of a text: a Report stays below 128 KiB."""

_SEVERITY = re.compile(r"\b(critical|high|medium|low)\b", re.IGNORECASE)


class Timestamp(msgspec.Struct, frozen=True):
    """Of `metav1.Timestamp`."""

    seconds: int
    nanos: int = 0


class ReportResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one image came to."""

    source: str
    policy: str
    rule: str
    category: str
    severity: str | None = None
    timestamp: Timestamp
    result: str
    """`pass`, `fail`, `warn`, `error` or `skip`."""
    scored: bool
    message: str
    properties: dict[str, str]


class Scope(msgspec.Struct, frozen=True, rename="camel"):
    """What the Report is about."""

    api_version: str
    kind: str
    name: str
    namespace: str
    uid: str


class ReportMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of a Report's metadata that is ours."""

    name: str
    namespace: str
    labels: dict[str, str]
    owner_references: tuple[OwnerReference, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=False):
    """One workload's images."""

    metadata: ReportMetadata
    source: str
    scope: Scope
    summary: dict[str, int]
    results: tuple[ReportResult, ...]
    api_version: str = API_VERSION
    kind: str = "Report"


def report_of(audit: Audit, uid: str) -> Report:
    """The Report on the workload of this Audit; `uid` is the Audit's."""
    metadata = audit.metadata
    of_audit = OwnerReference(api_version=AUDIT_VERSION, kind="Audit", name=metadata.name, uid=uid)
    owners = metadata.owner_references or (of_audit,)
    owner = owners[0]
    results = [_result(image, audit.status.decision.at) for image in sorted(audit.spec.images, key=weight)]
    counted = Counter(each.result for each in results)
    return Report(
        metadata=ReportMetadata(
            name=metadata.name,
            namespace=metadata.namespace,
            labels={"app.kubernetes.io/managed-by": SOURCE},
            owner_references=owners,
        ),
        source=SOURCE,
        scope=Scope(owner.api_version, owner.kind, owner.name, metadata.namespace, owner.uid),
        summary={each: counted[each] for each in ("pass", "fail", "warn", "error", "skip")},
        results=tuple(results[:MAX_RESULTS]),
    )


def _result(image: AuditImage, decided_at: datetime) -> ReportResult:
    result = _RESULTS[Outcome(image.verdict)]
    is_excused = bool(image.whitelist_item or image.grace_until)
    if result == "fail" and is_excused:
        result = "warn"
    why = image.reasons[0].text if image.reasons else image.error
    return ReportResult(
        source=SOURCE,
        policy=cut(image.policy or "default", MAX_TEXT),
        rule=cut(image.bundle, MAX_TEXT),
        category="Image policy",
        severity=_severity(image) if result in ("fail", "warn") else None,
        timestamp=Timestamp(int((image.evaluated_at or decided_at).timestamp())),
        result=result,
        scored=result in ("pass", "fail"),
        message=cut(": ".join(filter(None, (sentence_of(image), why))), 2 * MAX_TEXT),
        properties=_properties(image),
    )


def _properties(image: AuditImage) -> dict[str, str]:
    findings = list(dict.fromkeys(finding(each) for each in image.reasons))
    properties = {
        "image": image.image,
        "container": image.container,
        "digest": image.digest,
        "tenant": image.tenant,
        "whitelistItem": image.whitelist_item,
        "findings": ", ".join(findings[:MAX_FINDINGS]),
    }
    return {key: cut(text, MAX_TEXT) for key, text in properties.items() if text}


def _severity(image: AuditImage) -> str:
    """As the worst finding's text has it; Anchore's stopping ones come first."""
    named = _SEVERITY.search(image.reasons[0].text) if image.reasons else None
    return named[1].lower() if named else "high"


_RESULTS = {
    Outcome.PASS: "pass",
    Outcome.FAIL: "fail",
    Outcome.ERROR: "error",
    Outcome.PENDING: "skip",
    Outcome.NOT_ASKED: "skip",
}
