"""The scanner's metrics. Every label's values are enumerated; none holds an image or error text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.contracts import ErrorClass
from shared.metrics import CommonMetrics

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


_RESULTS = ("pass", "fail", "pending", "answered", "dropped")
_ERRORS = tuple(
    each.value
    for each in ErrorClass
    if each not in (ErrorClass.TENANT_UNKNOWN, ErrorClass.BAD_REFERENCE, ErrorClass.NATS_UNAVAILABLE)
)
"""Those that a scanner writes; the others are found out by a gateway."""


class ScannerMetrics(CommonMetrics):
    """What came of scans, and how Anchore answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.scans = Counter(
            "moorgate_scans_total",
            "Scans by what came of them: pass, fail, pending, answered, dropped, or the class of an error.",
            ["result"],
            registry=registry,
        )
        self.scan_duration = Histogram(
            "moorgate_scan_duration_seconds",
            "From a delivery to what came of it.",
            ["stage"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.anchore_requests = Counter(
            "moorgate_anchore_requests_total",
            "Calls to Anchore; code `none`: no answer.",
            ["operation", "code"],
            registry=registry,
        )
        self.anchore_duration = Histogram(
            "moorgate_anchore_request_duration_seconds",
            "Calls to Anchore.",
            ["operation"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.breakers_open = Gauge(
            "moorgate_anchore_breakers_open",
            "Tenants whose Anchore this process does not ask now, for it did not answer.",
            registry=registry,
        )
        self.queue_pending = Gauge(
            "moorgate_scan_queue_pending",
            "Scan requests not answered yet, those of pending images too; from one replica a tenant.",
            ["lane"],
            registry=registry,
        )
        self.queue_oldest = Gauge(
            "moorgate_scan_queue_oldest_seconds",
            "Age of the oldest scan request not answered yet; from one replica a tenant.",
            ["lane"],
            registry=registry,
        )
        for result in (*_RESULTS, *_ERRORS):
            self.scans.labels(result)


class NotificationMetrics:
    """What came of Anchore's notifications, where they are taken."""

    def __init__(self, registry: CollectorRegistry, common: CommonMetrics) -> None:
        self.degraded = common.degraded
        self.notifications = Counter(
            "moorgate_anchore_notifications_total",
            "Notifications of Anchore by type (`other`: none that is known, or not read) and by what came of them: "
            "asked (for scans), not_ours, failed (NATS went away), busy, refused (no secret), malformed.",
            ["type", "result"],
            registry=registry,
        )
        self.certificate_not_after = Gauge(
            "moorgate_certificate_not_after_seconds",
            "When the certificate of the port for notifications ends, in seconds since 1970.",
            registry=registry,
        )
