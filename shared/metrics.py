"""Metrics that every service has. Each service's own metrics.py declares the rest.

Counters with labels begin at 0 for the values that are known: Prometheus sees no increase in a counter whose
first sample is 1, and the first dead letter is the one to tell of. No namespace, image or error text ever becomes a label.
"""

import asyncio
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, ProcessCollector


class CommonMetrics:
    """Build, degradation, dead letters and what NATS refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        """For the metrics of parts that are not always there."""
        ProcessCollector(registry=registry)
        Info("moorgate_build", "The version that runs.", registry=registry).info(
            {"version": version("moorgate")}
        )
        Gauge(
            "moorgate_asyncio_tasks", "Tasks of the event loop that are not done.", registry=registry
        ).set_function(_tasks)
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


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # asked from outside of any loop
        return 0
