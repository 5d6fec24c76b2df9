"""The audit-writer's settings, typed. Nothing is opened before all of them are good."""

import os
import socket
from collections.abc import Mapping

import msgspec

from services.audit_writer.notifications import notify_file
from services.audit_writer.notifications.targets import Target
from services.audit_writer.open_reports import ReportKind
from services.audit_writer.page import settings as page_settings
from services.audit_writer.page.settings import PageSettings
from shared import releases
from shared.broker import BrokerSettings
from shared.logs import LogFormat, LogLevel
from shared.policies import Rule, load_defaults
from shared.settings import Environment, Listen

MIN_INTERVAL = 1.0
"""Seconds between two inventories, each of which reads every Pod, and between two scans of one image."""

MIN_RETENTION = 1.0
"""Seconds: a retention of nothing would delete records as they are made."""


class AuditWriterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the audit-writer can be told."""

    source: str
    """How this process names itself in messages."""
    broker: BrokerSettings
    metrics_listen: Listen
    has_cluster: bool
    """False: Audits are lines on stdout, and nothing is known to run."""
    namespace: str
    """Where the audit-writers' Lease lives."""
    inventory_interval: float
    """Seconds between two inventories of what runs."""
    release_labels: tuple[str, ...]
    """Of a Pod's labels the first of these names its release."""
    rescan_interval: float
    """Seconds in which everything that runs is scanned again."""
    defaults: Rule
    """How images are judged that no ImagePolicy matches: as the gateways are told."""
    whitelist_cluster_wide: bool
    """Whether whitelist items without namespaces count, likewise."""
    retention: float
    """Seconds an Audit that no owner takes along is kept after its newest decision."""
    notify: tuple[Target, ...]
    """Who hears of flips."""
    reports: ReportKind
    """What is written beside Audits."""
    page: PageSettings | None
    """Where the web page is served; None: nowhere."""
    log_level: LogLevel
    log_format: LogFormat


def load(variables: Mapping[str, str]) -> AuditWriterConfig:
    """The configuration in the environment. Raises `BadSetting` with the one line to show."""
    environment = Environment(variables)
    environment.refuse_without_cluster(
        "MOORGATE_NOTIFY_FILE", why="nothing is known to run, so nothing flips", instead="remove it"
    )
    environment.refuse_without_cluster(
        "MOORGATE_REPORTS",
        ReportKind.OFF.value,
        why="reports are objects of a cluster",
        instead="set it to off",
    )
    return AuditWriterConfig(
        source=f"moorgate/audit-writer/{socket.gethostname()}-{os.getpid()}",
        broker=BrokerSettings.load(environment),
        metrics_listen=environment.listen("MOORGATE_METRICS_LISTEN", "0.0.0.0:9090"),
        has_cluster=environment.has_cluster,
        namespace=environment.text("MOORGATE_NAMESPACE", "moorgate"),
        inventory_interval=environment.duration("MOORGATE_INVENTORY_INTERVAL", "10m", minimum=MIN_INTERVAL),
        release_labels=environment.words("MOORGATE_RELEASE_LABELS", releases.DEFAULT_LABELS),
        rescan_interval=environment.duration("MOORGATE_RESCAN_INTERVAL", "4h", minimum=MIN_INTERVAL),
        defaults=load_defaults(environment),
        whitelist_cluster_wide=environment.flag("MOORGATE_WHITELIST_CLUSTER_WIDE", default=True),
        retention=environment.duration("MOORGATE_AUDIT_RETENTION", "168h", minimum=MIN_RETENTION),
        notify=notify_file.load(environment.file("MOORGATE_NOTIFY_FILE")),
        reports=environment.choice("MOORGATE_REPORTS", ReportKind, ReportKind.OFF),
        page=page_settings.load(environment),
        log_level=environment.choice("MOORGATE_LOG_LEVEL", LogLevel, LogLevel.INFO),
        log_format=environment.choice("MOORGATE_LOG_FORMAT", LogFormat, LogFormat.JSON),
    )
