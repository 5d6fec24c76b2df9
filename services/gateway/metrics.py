"""The gateway's metrics. Every label's values are enumerated; none holds a namespace, image or error text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.metrics import CommonMetrics

_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10)


class GatewayMetrics(CommonMetrics):
    """What the gateway answers, from where, how fast, and what it could not record."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.requests = Counter(
            "moorgate_admission_requests_total",
            "Admissions answered.",
            ["operation", "resource", "action"],
            registry=registry,
        )
        self.duration = Histogram(
            "moorgate_admission_duration_seconds",
            "From the request's headers to its answer.",
            ["source"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.bad_requests = Counter(
            "moorgate_admission_bad_requests_total",
            "Bodies answered with an HTTP error.",
            ["code"],
            registry=registry,
        )
        self.mirror_entries = Gauge(
            "moorgate_verdict_mirror_entries", "Verdicts in memory.", registry=registry
        )
        self.scan_requests = Counter(
            "moorgate_scan_requests_total",
            "Scans asked for and accepted by the queue.",
            ["lane"],
            registry=registry,
        )
        self.certificate_not_after = Gauge(
            "moorgate_certificate_not_after_seconds",
            "When the certificate in use expires, as a unix time.",
            registry=registry,
        )
        self.scans_put_back = Counter(
            "moorgate_scans_put_back_total",
            "Scans of never-seen references not asked for: their namespace has asked for too many.",
            registry=registry,
        )
        self.outbox_entries = Gauge(
            "moorgate_outbox_entries", "Decisions not yet acknowledged by NATS.", registry=registry
        )
        self.unrecorded = Counter(
            "moorgate_decisions_unrecorded_total", "Decisions that could not be recorded.", registry=registry
        )
