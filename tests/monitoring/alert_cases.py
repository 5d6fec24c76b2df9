"""What each alert needs to fire, and what looks like it and must not: samples a minute apart, as promtool reads them."""

from typing import NamedTuple

NS = 'namespace="m"'
ALWAYS = "1x120"
POD = f'{NS},operation="CREATE",resource="Pod"'


class Case(NamedTuple):
    """Samples by series, and how many alerts of the name fire at minute `at`."""

    alert: str
    why: str
    series: dict[str, str]
    at: int
    fires: int = 1


def _gauge(name: str, labels: str, values: str) -> dict[str, str]:
    return {f"moorgate_{name}{{{labels}}}": values}


def _answers(allowed: str, **others: str) -> dict[str, str]:
    """Admissions of Pods, counted."""
    actions = {"allowed": allowed, **others}
    return {
        f'moorgate_admission_requests_total{{{POD},action="{action}"}}': values
        for action, values in actions.items()
    }


def _durations(source: str, **buckets: str) -> dict[str, str]:
    return {
        f'moorgate_admission_duration_seconds_bucket{{{NS},source="{source}",le="{le}"}}': values
        for le, values in buckets.items()
    }


def _lag(**buckets: str) -> dict[str, str]:
    return {f'moorgate_audit_lag_seconds_bucket{{{NS},le="{le}"}}': values for le, values in buckets.items()}


def _refused(reason: str, values: str) -> dict[str, str]:
    return _gauge("admission_refusals_total", f'{NS},reason="{reason}"', values)


def _calls(code: str, values: str) -> dict[str, str]:
    return _gauge("anchore_requests_total", f'{NS},operation="check",code="{code}"', values)


def _queue(what: str, values: str, instance: str = "a", lane: str = "admission") -> dict[str, str]:
    return _gauge(f"scan_queue_{what}", f'{NS},instance="{instance}",lane="{lane}"', values)


def _notified(result: str, values: str) -> dict[str, str]:
    return _gauge("notifications_total", f'{NS},type="slack",result="{result}"', values)


def _inventory(age_begins: str, *, leads: int = 1, interval: int = 600) -> dict[str, str]:
    return (
        _gauge("inventory_last_success_timestamp_seconds", NS, age_begins)
        | _gauge("inventory_interval_seconds", NS, f"{interval}x120")
        | _gauge("leading", f'{NS},lease="moorgate-audit-writer"', f"{leads}x120")
    )


CASES = [
    Case("MoorgateGatewayAbsent", "none shows metrics", {}, 4),
    Case(
        "MoorgateGatewayAbsent",
        "a restart is shorter",
        _gauge("verdict_mirror_entries", NS, "5x5 _x2 5x9"),
        8,
        0,
    ),
    Case(
        "MoorgateAdmissionErrors",
        "one call in eleven is an error",
        _answers("0+100x30") | _gauge("admission_bad_requests_total", f'{NS},code="404"', "0+10x30"),
        15,
    ),
    Case(
        "MoorgateAdmissionErrors",
        "somebody posts garbage now and then",
        _answers("0+100x30") | _gauge("admission_bad_requests_total", f'{NS},code="400"', "0+1x30"),
        15,
        0,
    ),
    Case(
        "MoorgateAdmissionSlow",
        "known images wait",
        _durations("memory", **{"0.5": "0+9x60", "1": "0+10x60", "+Inf": "0+10x60"}),
        20,
    ),
    Case(
        "MoorgateAdmissionSlow",
        "past the longest wait",
        _durations("wait", **{"4": "0+9x60", "5": "0+10x60", "+Inf": "0+10x60"}),
        20,
    ),
    Case(
        "MoorgateAdmissionSlow",
        "unknown images wait their three seconds",
        _durations("wait", **{"3": "0+1x60", "4": "0+10x60", "+Inf": "0+10x60"}),
        20,
        0,
    ),
    Case(
        "MoorgateAdmissionSlow",
        "nobody asks",
        _durations("memory", **{"0.5": "9x60", "1": "10x60", "+Inf": "10x60"}),
        20,
        0,
    ),
    Case(
        "MoorgateCertificateExpiring",
        "six days left",
        _gauge("certificate_not_after_seconds", f'{NS},instance="a"', f"{6 * 86400}x60"),
        20,
    ),
    Case(
        "MoorgateCertificateExpiring",
        "thirty days left",
        _gauge("certificate_not_after_seconds", f'{NS},instance="a"', f"{30 * 86400}x60"),
        20,
        0,
    ),
    Case(
        "MoorgateCertificateExpiring",
        "none taken yet",
        _gauge("certificate_not_after_seconds", f'{NS},instance="a"', "0x60"),
        20,
        0,
    ),
    Case(
        "MoorgateVerdictMirrorEmpty",
        "the bucket is lost",
        _gauge("verdict_mirror_entries", NS, "100x30 0x30"),
        40,
    ),
    Case(
        "MoorgateVerdictMirrorEmpty",
        "a new installation",
        _gauge("verdict_mirror_entries", NS, "0x60"),
        40,
        0,
    ),
    Case("MoorgateRefusedWithoutVerdict", "Anchore cannot tell", _refused("error", "0+2x60"), 30),
    Case(
        "MoorgateRefusedWithoutVerdict",
        "policy refuses",
        _refused("policy", "0+2x60") | _refused("error", "7x60"),
        30,
        0,
    ),
    Case(
        "MoorgateRefusalSpike",
        "most Pods are refused",
        _answers("0+1x60", rejected="0+3x60") | _refused("policy", "0+3x60"),
        40,
    ),
    Case(
        "MoorgateRefusalSpike",
        "one broken Deployment in a quiet cluster",
        _answers("0x60", rejected="0+0.2x60") | _refused("policy", "0+0.2x60"),
        40,
        0,
    ),
    Case(
        "MoorgateRefusalSpike",
        "a few of many",
        _answers("0+30x60", rejected="0+3x60") | _refused("policy", "0+3x60"),
        40,
        0,
    ),
    Case("MoorgateDeferralsLong", "every second Pod is put off", _answers("0+5x60", deferred="0+5x60"), 50),
    Case(
        "MoorgateDeferralsLong",
        "for ten minutes after a release",
        _answers("0+5x60", deferred="0+5x10 50x50"),
        50,
        0,
    ),
    Case("MoorgateServiceAbsent", "neither shows metrics", {}, 6, 2),
    Case("MoorgateServiceAbsent", "no scanner", _gauge("decisions_waiting", NS, ALWAYS), 6),
    Case(
        "MoorgateServiceAbsent",
        "both are there",
        _gauge("decisions_waiting", NS, ALWAYS) | _gauge("anchore_breakers_open", NS, ALWAYS),
        6,
        0,
    ),
    Case("MoorgateScanQueueOld", "half an hour old", _queue("oldest_seconds", "1800x60"), 10),
    Case("MoorgateScanQueueOld", "ten minutes old", _queue("oldest_seconds", "600x60"), 10, 0),
    Case(
        "MoorgateScanQueueOld",
        "nobody waits for a re-scan",
        _queue("oldest_seconds", "1800x60", lane="rescan"),
        10,
        0,
    ),
    Case(
        "MoorgateScanQueueGrowing",
        "it grows while another scanner tells",
        _queue("pending", "0+20x30 stale") | _queue("pending", "_x31 620+20x60", "b"),
        60,
    ),
    Case("MoorgateScanQueueGrowing", "it shrinks", _queue("pending", "2000-20x60"), 60, 0),
    Case("MoorgateScanQueueGrowing", "it is short", _queue("pending", "0+1x60"), 60, 0),
    Case("MoorgateAnchoreAway", "a breaker is open", _gauge("anchore_breakers_open", NS, "0x5 1x60"), 15),
    Case(
        "MoorgateAnchoreAway",
        "it was open for a minute",
        _gauge("anchore_breakers_open", NS, "0x5 1x1 0x60"),
        15,
        0,
    ),
    Case("MoorgateAnchoreFailing", "no answers", _calls("200", "0+5x60") | _calls("none", "0+5x60"), 30),
    Case(
        "MoorgateAnchoreFailing", "credentials refused", _calls("200", "0+5x60") | _calls("401", "0+5x60"), 30
    ),
    Case(
        "MoorgateAnchoreFailing", "404 is an answer", _calls("200", "0+5x60") | _calls("404", "0+5x60"), 30, 0
    ),
    Case(
        "MoorgateTenantsUnknown",
        "nobody is served",
        _gauge("tenants", f'{NS},instance="a",state="served"', "0x60")
        | _gauge("tenants", f'{NS},instance="a",state="away"', "0x60"),
        10,
    ),
    Case(
        "MoorgateTenantsUnknown",
        "the only one is away",
        _gauge("tenants", f'{NS},instance="a",state="served"', "0x60")
        | _gauge("tenants", f'{NS},instance="a",state="away"', ALWAYS),
        10,
        0,
    ),
    Case("MoorgateDecisionsUnrecorded", "one", _gauge("decisions_unrecorded_total", NS, "0x20 1x60"), 25),
    Case(
        "MoorgateDecisionsUnrecorded",
        "long ago",
        _gauge("decisions_unrecorded_total", NS, "0x20 1x60"),
        50,
        0,
    ),
    Case("MoorgateOutboxFilling", "NATS acknowledges nothing", _gauge("outbox_entries", NS, "0+100x60"), 20),
    Case(
        "MoorgateOutboxDamaged",
        "a corrupt record",
        _gauge("outbox_damaged_total", f'{NS},kind="corrupt"', "0x20 1x60"),
        25,
    ),
    Case(
        "MoorgateOutboxDamaged",
        "long ago",
        _gauge("outbox_damaged_total", f'{NS},kind="corrupt"', "0x20 1x60"),
        50,
        0,
    ),
    Case("MoorgateOutboxFilling", "a burst", _gauge("outbox_entries", NS, "0 900 900 0x60"), 20, 0),
    Case(
        "MoorgateAuditsBehind",
        "they come ten minutes late",
        _lag(**{"300": "0+1x60", "1800": "0+10x60", "+Inf": "0+10x60"}),
        30,
    ),
    Case(
        "MoorgateAuditsBehind",
        "thousands wait",
        _gauge("decisions_waiting", NS, "2000x60")
        | _gauge("audits_written_total", f'{NS},action="allowed"', "0+9x60"),
        30,
    ),
    Case(
        "MoorgateAuditsBehind",
        "a few wait and nothing is written",
        _gauge("decisions_waiting", NS, "3x60")
        | _gauge("audits_written_total", f'{NS},action="allowed"', "9x60"),
        30,
    ),
    Case(
        "MoorgateAuditsBehind",
        "a few always wait for an owner",
        _gauge("decisions_waiting", NS, "3x60")
        | _gauge("audits_written_total", f'{NS},action="allowed"', "0+1x60"),
        30,
        0,
    ),
    Case(
        "MoorgateAuditsBehind",
        "nothing happens",
        _gauge("decisions_waiting", NS, "0x60")
        | _gauge("audits_written_total", f'{NS},action="allowed"', "9x60"),
        30,
        0,
    ),
    Case(
        "MoorgateDeadLetters",
        "the first one",
        _gauge("dead_letters_total", f'{NS},what="scan"', "0x10 1x60"),
        15,
    ),
    Case("MoorgateDeadLetters", "none", _gauge("dead_letters_total", f'{NS},what="scan"', "0x60"), 15, 0),
    Case("MoorgateNotificationsFailing", "one was dropped", _notified("dropped", "0x5 1x60"), 20),
    Case(
        "MoorgateNotificationsFailing",
        "nothing but retries",
        _notified("retried", "0+1x60") | _notified("sent", "4x60"),
        30,
    ),
    Case(
        "MoorgateNotificationsFailing",
        "retries that help",
        _notified("retried", "0+1x60") | _notified("sent", "0+1x60"),
        30,
        0,
    ),
    Case("MoorgateInventoryStale", "none for an hour", _inventory("0x120"), 60),
    Case("MoorgateInventoryStale", "one every ten minutes", _inventory("0+60x120"), 60, 0),
    Case(
        "MoorgateInventoryStale",
        "none is taken without a cluster",
        _gauge("inventory_last_success_timestamp_seconds", NS, "0x120"),
        60,
        0,
    ),
    Case("MoorgateInventoryStale", "an interval of an hour", _inventory("0x120", interval=3600), 60, 0),
    Case(
        "MoorgateLeaderMissing",
        "of two nobody leads",
        _gauge("leading", f'{NS},lease="moorgate-gateway",instance="a"', "0x60")
        | _gauge("leading", f'{NS},lease="moorgate-gateway",instance="b"', "0x60"),
        10,
    ),
    Case(
        "MoorgateLeaderMissing",
        "one of two leads",
        _gauge("leading", f'{NS},lease="moorgate-gateway",instance="a"', "0x60")
        | _gauge("leading", f'{NS},lease="moorgate-gateway",instance="b"', ALWAYS),
        10,
        0,
    ),
    Case("MoorgateNatsAway", "for five minutes", _gauge("degraded", f'{NS},part="nats"', "0x3 1x60"), 10),
    Case("MoorgateNatsAway", "for a minute", _gauge("degraded", f'{NS},part="nats"', "0x3 1x1 0x60"), 10, 0),
    Case(
        "MoorgateDegraded", "no new certificate", _gauge("degraded", f'{NS},part="certificate"', ALWAYS), 15
    ),
    Case(
        "MoorgateDegraded",
        "NATS has an alert of its own",
        _gauge("degraded", f'{NS},part="nats"', ALWAYS)
        | _gauge("degraded", f'{NS},part="certificate"', "0x60"),
        15,
        0,
    ),
    Case(
        "MoorgateDegraded",
        "the registration has an alert of its own",
        _gauge("degraded", f'{NS},part="registration"', ALWAYS),
        15,
        0,
    ),
    Case("MoorgateNotRegistered", "gone", _gauge("degraded", f'{NS},part="registration"', "0x3 1x60"), 12),
    Case(
        "MoorgateNotRegistered",
        "an installation that takes a while",
        _gauge("degraded", f'{NS},part="registration"', "1x3 0x60"),
        12,
        0,
    ),
    Case("MoorgateNatsPermissionErrors", "one", _gauge("nats_permission_errors_total", NS, "0x5 1x60"), 10),
    Case("MoorgateNatsPermissionErrors", "none", _gauge("nats_permission_errors_total", NS, "0x60"), 10, 0),
]
