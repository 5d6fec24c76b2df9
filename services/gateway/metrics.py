"""The gateway's metrics. Every label's values are enumerated; none holds a namespace, image or error text."""

from enum import StrEnum
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.contracts import Action, ScanError, ScanPending
from shared.metrics import CommonMetrics
from shared.subjects import Lane
from shared.verdict_store import VerdictMirror

_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 10)

_SOURCES = ("memory", "wait", "fallback")
"""The values of `verdict_lookup.Source`, which knows this module."""


class Refusal(StrEnum):
    """Why a Pod was refused."""

    POLICY = "policy"
    """An image fails its policy bundle."""
    ERROR = "error"
    """No verdict is to be had, and the rule says deny."""
    PENDING = "pending"
    """The scan is under way, and the rule says deny."""
    UNRECORDED = "unrecorded"
    """The decision could not be recorded, and MOORGATE_ON_UNRECORDED says deny."""


class Damaged(StrEnum):
    """What was found in the outbox' files at the start."""

    TORN = "torn"
    """The end of a file is no whole record: its writer was stopped there."""
    CORRUPT = "corrupt"
    """Bytes between records are none: the disk, or a hand."""


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
        self.refusals = Counter(
            "moorgate_admission_refusals_total",
            "Admissions rejected, by why: policy (an image fails), error (no verdict), pending (being scanned), unrecorded.",
            ["reason"],
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
            "Requests answered with an HTTP error; 500 is a defect of the gateway.",
            ["code"],
            registry=registry,
        )
        self.mirror_entries = Gauge(
            "moorgate_verdict_mirror_entries", "Verdicts in memory.", registry=registry
        )
        self.scan_states = Gauge(
            "moorgate_scan_states",
            "Scans without a verdict yet, by state: pending (analysed now), error (no verdict to be had now).",
            ["state"],
            registry=registry,
        )
        self.tenants = Gauge(
            "moorgate_tenants",
            "Tenants that scanners serve, by state: served, away (their Anchore does not answer).",
            ["state"],
            registry=registry,
        )
        self.leading = Gauge(
            "moorgate_leading",
            "1 while this process holds the Lease; there is none without a cluster.",
            ["lease"],
            registry=registry,
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
        self.questions = Counter(
            "moorgate_verdict_questions_total",
            "Questions of other tools (moorgate.v1.verdict.<tenant>), by what they were told or why they were refused.",
            ["outcome"],
            registry=registry,
        )
        self.outbox_entries = Gauge(
            "moorgate_outbox_entries", "Decisions not yet acknowledged by NATS.", registry=registry
        )
        self.outbox_bytes = Gauge(
            "moorgate_outbox_bytes",
            "Size of the outbox: its files, or what it holds in memory.",
            registry=registry,
        )
        self.outbox_damaged = Counter(
            "moorgate_outbox_damaged_total",
            "Damage found in the outbox' files at the start: torn (the end of a file), corrupt (in between).",
            ["kind"],
            registry=registry,
        )
        self.unacknowledged = Counter(
            "moorgate_decisions_unacknowledged_total",
            "With durability ack: answers that went out without NATS' acknowledgement; the decision is in the outbox.",
            registry=registry,
        )
        self.unrecorded = Counter(
            "moorgate_decisions_unrecorded_total", "Decisions that could not be recorded.", registry=registry
        )
        self._begin_at_zero()

    def watch(self, mirror: VerdictMirror) -> None:
        """From now on tell of what the mirror holds, as each scrape finds it."""
        self.mirror_entries.set_function(lambda: len(mirror.verdicts))
        for kind in (ScanPending, ScanError):
            state = kind.__name__.removeprefix("Scan").lower()
            self.scan_states.labels(state).set_function(partial(mirror.count_states, kind))
        self.tenants.labels("served").set_function(lambda: len(mirror.tenants) - mirror.tenants_away())
        self.tenants.labels("away").set_function(mirror.tenants_away)

    def _begin_at_zero(self) -> None:
        self.scan_requests.labels(Lane.ADMISSION.value)
        for action in Action:
            self.requests.labels(operation="CREATE", resource="Pod", action=action.value)
        for source in _SOURCES:
            self.duration.labels(source)
        for reason in Refusal:
            self.refusals.labels(reason.value)
        for kind in Damaged:
            self.outbox_damaged.labels(kind.value)
        for code in (400, 404, 408, 413, 415, 500):
            self.bad_requests.labels(str(code))
