"""The scanner's settings, typed. Nothing is opened before all of them are good."""

import os
import socket
from collections.abc import Mapping

import msgspec

from services.scanner.evaluation import Lifetimes, OnUnmapped, Rules
from services.scanner.notifications import SETTINGS as NOTIFICATIONS
from services.scanner.notifications import NotificationSettings
from shared import tenants
from shared.broker import BrokerSettings
from shared.certificates import CertificateFiles
from shared.errors import BadSetting
from shared.logs import LogFormat, LogLevel
from shared.settings import Environment, Listen
from shared.tenants import TenantSource

LONGEST_PENDING = 50 * 60.0
"""Seconds: a scan request lives an hour in its stream, and with it the analysis that is waited for."""


class ScannerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the scanner can be told."""

    source: str
    broker: BrokerSettings
    metrics_listen: Listen
    tenants: TenantSource
    """Read again while running."""
    concurrency: int
    """Scans at once, a lane and tenant, and at most so many calls of a kind to its Anchore."""
    rules: Rules
    pending_limit: float
    """Seconds an analysis may take."""
    notifications: NotificationSettings | None
    """Where Anchore's notifications are taken; None: nowhere."""
    log_level: LogLevel
    log_format: LogFormat


def load(variables: Mapping[str, str]) -> ScannerConfig:
    """The configuration in the environment. Raises `BadSetting` with the one line to show."""
    environment = Environment(variables)
    return ScannerConfig(
        source=f"moorgate/scanner/{socket.gethostname()}-{os.getpid()}",
        broker=BrokerSettings.load(environment),
        metrics_listen=environment.listen("MOORGATE_METRICS_LISTEN", "0.0.0.0:9090"),
        tenants=tenants.load(environment),
        concurrency=environment.integer("MOORGATE_SCANNER_CONCURRENCY", 8),
        rules=Rules(
            lifetimes=Lifetimes(
                passed=environment.duration("MOORGATE_PASS_TTL", "6h"),
                failed=environment.duration("MOORGATE_FAIL_TTL", "5m"),
                tag=environment.duration("MOORGATE_TAG_TTL", "15m"),
                known=environment.duration("MOORGATE_KNOWN_TTL", "168h", minimum=1),
            ),
            on_unmapped=environment.choice("MOORGATE_ON_UNMAPPED", OnUnmapped, OnUnmapped.PASS),
        ),
        pending_limit=environment.duration("MOORGATE_PENDING_LIMIT", "30m", maximum=LONGEST_PENDING),
        notifications=_notifications(environment),
        log_level=environment.choice("MOORGATE_LOG_LEVEL", LogLevel, LogLevel.INFO),
        log_format=environment.choice("MOORGATE_LOG_FORMAT", LogFormat, LogFormat.JSON),
    )


def _notifications(environment: Environment) -> NotificationSettings | None:
    listen = f"{NOTIFICATIONS}_LISTEN"
    secret = environment.secret(f"{NOTIFICATIONS}_SECRET")
    if environment.optional(listen) is None:
        return None
    if secret is None:
        raise BadSetting(
            f"{NOTIFICATIONS}_SECRET_FILE (or {NOTIFICATIONS}_SECRET) is not set: it is required, "
            "for whoever may post notifications causes scans"
        )
    files = (environment.required_file(f"{NOTIFICATIONS}_{kind}_FILE") for kind in ("CERT", "KEY"))
    return NotificationSettings(
        listen=environment.listen(listen, ""), files=CertificateFiles(*files), secret=secret
    )
