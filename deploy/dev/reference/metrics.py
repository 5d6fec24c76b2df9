"""docs/reference/metrics.md: every metric of every service, from the registries that the services themselves fill."""

import re
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector

from deploy.dev.reference.markdown import code, table
from deploy.dev.services import ROOT
from services.audit_writer.metrics import AuditWriterMetrics
from services.audit_writer.page.metrics import PageMetrics
from services.gateway.metrics import GatewayMetrics
from services.scanner.metrics import NotificationMetrics, ScannerMetrics
from shared.metrics import CommonMetrics

SUFFIXES = {"counter": "_total", "info": "_info"}
"""What Prometheus' format puts after the name of a metric of this type."""

NAME = re.compile(r"\"(moorgate_[a-z0-9_]+)\"")
"""How a metric is named in the code."""

_PART = re.compile(r"degraded\.labels\(\"(\w+)\"\)")

INTRODUCTION = """\
# Reference: metrics

Every service serves these at `/metrics` on `MOORGATE_METRICS_LISTEN`, in Prometheus' format, beside the usual `process_…` metrics.
A label's values are a fixed set: none holds a namespace, an image or the text of an error. The values in parentheses are
there from the start, at 0. What to watch, and what to do about it: [runbook-alerts.md](../runbook-alerts.md)."""


class Described(NamedTuple):
    """One metric as it is declared."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def page() -> str:
    """The page."""
    common = described(_common())
    parts = [INTRODUCTION, _section("Every service", common)]
    parts.append(f"The parts of `moorgate_degraded`: {code(degraded_parts())}.")
    for title, registry in SERVICES.items():
        own = [each for each in described(registry()) if each.name not in {every.name for every in common}]
        parts.append(_section(title, own))
    return "\n\n".join(parts)


def described(registry: CollectorRegistry) -> list[Described]:
    """The metrics in the order of their declaration."""
    # The registry has no public way to list what it holds, and a metric none to name its labels.
    collectors = list(registry._collector_to_names)  # noqa: SLF001
    found = []
    for collector in collectors:
        if isinstance(collector, ProcessCollector):
            continue
        names = getattr(collector, "_labelnames", ())
        for metric in collector.collect():
            known = {name: {sample.labels[name] for sample in metric.samples} for name in names}
            found.append(
                Described(
                    metric.name + SUFFIXES.get(metric.type, ""),
                    metric.type,
                    tuple(_label(name, sorted(values)) for name, values in known.items()),
                    metric.documentation,
                )
            )
    return found


def degraded_parts() -> list[str]:
    """What the services say that they may work without; a part begins to be told of when it is first so."""
    files = [file for folder in ("services", "shared") for file in (ROOT / folder).rglob("*.py")]
    return sorted({part for file in files for part in _PART.findall(file.read_text(encoding="utf-8"))})


def _label(name: str, values: list[str]) -> str:
    return f"`{name}` ({code(values)})" if values else f"`{name}`"


def _section(title: str, metrics: list[Described]) -> str:
    rows = [(f"`{each.name}`", each.type, ", ".join(each.labels), each.help) for each in metrics]
    return f"## {title}\n\n" + table(("metric", "type", "labels", ""), rows)


def _common() -> CollectorRegistry:
    registry = CollectorRegistry()
    CommonMetrics(registry)
    return registry


def _gateway() -> CollectorRegistry:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    return registry


def _scanner() -> CollectorRegistry:
    """Also those of the port for Anchore's notifications, where it is open."""
    registry = CollectorRegistry()
    NotificationMetrics(registry, ScannerMetrics(registry))
    return registry


def _audit_writer() -> CollectorRegistry:
    """Also those of the web page, where it is served."""
    registry = CollectorRegistry()
    PageMetrics(AuditWriterMetrics(registry))
    return registry


SERVICES = {"Gateway": _gateway, "Scanner": _scanner, "Audit-writer": _audit_writer}
