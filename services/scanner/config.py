"""The scanner's settings, typed. Nothing is opened before all of them are good."""

import os
import socket
import ssl
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from services.scanner.anchore_v1 import AnchoreSettings
from services.scanner.evaluation import Lifetimes, OnUnmapped, Rules
from shared.broker import BrokerSettings
from shared.errors import BadSetting
from shared.logs import LogFormat, LogLevel
from shared.settings import Environment, Listen

DEFAULT_TENANT = "default"
"""The single tenant of `MOORGATE_ANCHORE_…`."""


class AnchoreApi(StrEnum):
    """Which API to speak; `auto` takes what the server answers."""

    AUTO = "auto"
    V1 = "v1"


class ScannerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the scanner can be told."""

    source: str
    broker: BrokerSettings
    metrics_listen: Listen
    tenants: dict[str, AnchoreSettings]
    concurrency: int
    """Scans at once, a lane and tenant."""
    rules: Rules
    pending_limit: float
    """Seconds an analysis may take."""
    log_level: LogLevel
    log_format: LogFormat


def load(variables: Mapping[str, str]) -> ScannerConfig:
    """The configuration in the environment. Raises `BadSetting` with the one line to show."""
    environment = Environment(variables)
    environment.choice("MOORGATE_ANCHORE_API", AnchoreApi, AnchoreApi.AUTO)
    return ScannerConfig(
        source=f"moorgate/scanner/{socket.gethostname()}-{os.getpid()}",
        broker=BrokerSettings.load(environment),
        metrics_listen=environment.listen("MOORGATE_METRICS_LISTEN", "0.0.0.0:9090"),
        tenants={DEFAULT_TENANT: _anchore(environment)},
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
        pending_limit=environment.duration("MOORGATE_PENDING_LIMIT", "30m"),
        log_level=environment.choice("MOORGATE_LOG_LEVEL", LogLevel, LogLevel.INFO),
        log_format=environment.choice("MOORGATE_LOG_FORMAT", LogFormat, LogFormat.JSON),
    )


def _anchore(environment: Environment) -> AnchoreSettings:
    password = environment.secret("MOORGATE_ANCHORE_PASSWORD")
    if password is None:
        raise BadSetting(
            "MOORGATE_ANCHORE_PASSWORD_FILE (or MOORGATE_ANCHORE_PASSWORD) is not set: it is required"
        )
    username = environment.text("MOORGATE_ANCHORE_USERNAME", "admin")
    if ":" in username:
        raise BadSetting("MOORGATE_ANCHORE_USERNAME holds a ':': HTTP basic authentication cannot carry that")
    return AnchoreSettings(
        url=_url(environment),
        username=username,
        password=password,
        ca_file=_ca_file(environment),
        skip_verify=environment.flag("MOORGATE_ANCHORE_INSECURE_SKIP_VERIFY", default=False),
    )


def _url(environment: Environment) -> str:
    """The address, checked; one with credentials is refused without repeating it."""
    url = environment.text("MOORGATE_ANCHORE_URL")
    if "@" in url:
        raise BadSetting(
            "MOORGATE_ANCHORE_URL holds credentials: use MOORGATE_ANCHORE_USERNAME and …_PASSWORD_FILE"
        )
    if not _is_address(url):
        raise BadSetting(f"MOORGATE_ANCHORE_URL is {url!r}: it must be http(s)://host[:port]")
    return url


def _ca_file(environment: Environment) -> str | None:
    path = environment.file("MOORGATE_ANCHORE_CA_FILE")
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise BadSetting(f"MOORGATE_ANCHORE_CA_FILE: {path} holds no certificates (PEM)") from error
    return str(path)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname and parts.port != 0) and not parts.query
        )
    except ValueError:  # brackets or a port of nonsense
        return False
