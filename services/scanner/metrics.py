"""The scanner's metrics. Every label's values are enumerated; none holds an image or error text."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from shared.metrics import CommonMetrics

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


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
