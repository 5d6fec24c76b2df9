"""The audit-writer's metrics. Every label's values are enumerated; none holds a namespace or an image."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.contracts import Action, Result
from shared.metrics import CommonMetrics
from shared.subjects import Lane

_LAG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class AuditWriterMetrics(CommonMetrics):
    """What was written, and how long after the decision."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.audits_written = Counter(
            "moorgate_audits_written_total",
            "Audits created or changed, by the action of the decision that led to it.",
            ["action"],
            registry=registry,
        )
        self.audit_lag = Histogram(
            "moorgate_audit_lag_seconds",
            "From a decision to its Audit.",
            buckets=_LAG,
            registry=registry,
        )
        self.decisions_waiting = Gauge(
            "moorgate_decisions_waiting",
            "Decisions in the stream that are not in an Audit yet, those in work too; every replica tells the same.",
            registry=registry,
        )
        self.leading = Gauge(
            "moorgate_leading",
            "1 while this process holds the Lease; there is none without a cluster.",
            ["lease"],
            registry=registry,
        )
        self.notifications = Counter(
            "moorgate_notifications_total",
            "Tries to notify, by the target's type: sent, to be tried again, given up (a dead letter).",
            ["type", "result"],
            registry=registry,
        )
        self.notification_last_sent = Gauge(
            "moorgate_notification_last_sent_timestamp_seconds",
            "When this target last took a notification.",
            ["target"],
            registry=registry,
        )
        self.inventory_workloads = Gauge(
            "moorgate_inventory_workloads",
            "Workloads that run, as the last inventory of this process found; only the leader takes it.",
            registry=registry,
        )
        self.inventory_last_success = Gauge(
            "moorgate_inventory_last_success_timestamp_seconds",
            "When the last inventory of this process was complete; only the leader takes it.",
            registry=registry,
        )
        self.inventory_interval = Gauge(
            "moorgate_inventory_interval_seconds",
            "Seconds between two inventories, as it is set.",
            registry=registry,
        )
        self.scan_requests = Counter(
            "moorgate_scan_requests_total",
            "Scans asked for and accepted by the queue.",
            ["lane"],
            registry=registry,
        )
        self.verdict_flips = Counter(
            "moorgate_verdict_flips_total",
            "Flips of what runs that were told of: once a flip, namespace and release.",
            ["to"],
            registry=registry,
        )
        self.scan_requests.labels(Lane.RESCAN.value)
        for result in Result:
            self.verdict_flips.labels(result.value)
        for action in (Action.ALLOWED, Action.REJECTED):
            self.audits_written.labels(action)
