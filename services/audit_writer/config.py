"""The audit-writer's settings, typed. Nothing is opened before all of them are good."""

import os
import socket
from collections.abc import Mapping

import msgspec

from services.audit_writer.notifications import notify_file
from services.audit_writer.notifications.targets import Target
from shared.broker import BrokerSettings
from shared.logs import LogFormat, LogLevel
from shared.settings import Environment, Listen

MIN_INTERVAL = 1.0
"""Seconds between two inventories: each reads every Pod."""

MIN_RETENTION = 1.0
"""Seconds: a retention of nothing would delete records as they are made."""


class AuditWriterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the audit-writer can be told."""

    source: str
    """How this process names itself in messages."""
    broker: BrokerSettings
    metrics_listen: Listen
    namespace: str
    """Where the audit-writers' Lease lives."""
    inventory_interval: float
    """Seconds between two inventories of what runs."""
    retention: float
    """Seconds an Audit that no owner takes along is kept after its newest decision."""
    notify: tuple[Target, ...]
    """Who hears of flips."""
    log_level: LogLevel
    log_format: LogFormat


def load(variables: Mapping[str, str]) -> AuditWriterConfig:
    """The configuration in the environment. Raises `BadSetting` with the one line to show."""
    environment = Environment(variables)
    return AuditWriterConfig(
        source=f"moorgate/audit-writer/{socket.gethostname()}-{os.getpid()}",
        broker=BrokerSettings.load(environment),
        metrics_listen=environment.listen("MOORGATE_METRICS_LISTEN", "0.0.0.0:9090"),
        namespace=environment.text("MOORGATE_NAMESPACE", "moorgate"),
        inventory_interval=environment.duration("MOORGATE_INVENTORY_INTERVAL", "10m", minimum=MIN_INTERVAL),
        retention=environment.duration("MOORGATE_AUDIT_RETENTION", "168h", minimum=MIN_RETENTION),
        notify=notify_file.load(environment.file("MOORGATE_NOTIFY_FILE")),
        log_level=environment.choice("MOORGATE_LOG_LEVEL", LogLevel, LogLevel.INFO),
        log_format=environment.choice("MOORGATE_LOG_FORMAT", LogFormat, LogFormat.JSON),
    )
