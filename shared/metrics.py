"""Metrics that every service has. Each service's own metrics.py declares the rest.

No namespace, image or error text ever becomes a label.
"""

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Info


class CommonMetrics:
    """Build, degradation, dead letters and what NATS refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        Info("moorgate_build", "The version that runs.", registry=registry).info(
            {"version": version("moorgate")}
        )
        self.degraded = Gauge(
            "moorgate_degraded",
            "1 while the part works without something it should have.",
            ["part"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "moorgate_dead_letters_total",
            "Messages given up, with the reason kept.",
            ["what"],
            registry=registry,
        )
        self.nats_permission_errors = Counter(
            "moorgate_nats_permission_errors_total", "What NATS' permissions refused.", registry=registry
        )
