"""The gateway's settings, typed. Nothing is opened before all of them are good."""

import os
import re
import socket
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import msgspec

from services.gateway import policies_file
from services.gateway.outbox import OutboxSettings
from services.gateway.scan_rates import Rate, parse_rate
from shared import releases
from shared.broker import BrokerSettings
from shared.certificates import CertificateFiles
from shared.errors import BadSetting
from shared.logs import LogFormat, LogLevel
from shared.policies import Rule, load_defaults
from shared.settings import Environment, Listen, Secret

_PATH_SECRET = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)


class TlsIssuer(Enum):
    """Who makes the gateways' certificate."""

    FILE = "file"
    """Somebody else, who puts it into files and renews it there: cert-manager, an existing Secret."""
    SELF = "self"
    """The gateways themselves (issuer.py)."""


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the gateway can be told."""

    source: str
    """How this process names itself in messages."""
    broker: BrokerSettings
    listen: Listen
    metrics_listen: Listen
    has_cluster: bool
    policies_file: Path | None
    """Where ImagePolicies come from without a cluster; None: the defaults judge everything."""
    namespace: str
    """Where the gateways' Secret and Lease live."""
    tls_files: CertificateFiles | None
    """None: the gateways issue their certificate themselves."""
    client_ca: Path | None
    path_secret: Secret | None
    whitelist_cluster_wide: bool
    max_wait: float
    """Seconds."""
    deadline_margin: float
    """Seconds kept back from the API server's timeout for the way home."""
    scan_rate: Rate
    """Never-seen references that one namespace may have scanned."""
    outbox: OutboxSettings
    release_labels: tuple[str, ...]
    defaults: Rule
    log_level: LogLevel
    log_format: LogFormat


def load(variables: Mapping[str, str]) -> GatewayConfig:
    """The configuration in the environment. Raises `BadSetting` with the one line to show."""
    environment = Environment(variables)
    client_ca = environment.file("MOORGATE_CLIENT_CA_FILE")
    path_secret = environment.secret("MOORGATE_PATH_SECRET")
    _check_callers(environment, client_ca, path_secret)
    if path_secret and not _PATH_SECRET.fullmatch(path_secret.reveal()):
        raise BadSetting(
            "MOORGATE_PATH_SECRET: it must be of letters, digits and . _ ~ - only: it is part of a URL"
        )
    return GatewayConfig(
        source=f"moorgate/gateway/{socket.gethostname()}-{os.getpid()}",
        broker=BrokerSettings.load(environment),
        listen=environment.listen("MOORGATE_LISTEN", "0.0.0.0:8443"),
        metrics_listen=environment.listen("MOORGATE_METRICS_LISTEN", "0.0.0.0:9090"),
        has_cluster=environment.has_cluster,
        policies_file=_policies_file(environment),
        namespace=environment.text("MOORGATE_NAMESPACE", "moorgate"),
        tls_files=_tls_files(environment),
        client_ca=client_ca,
        path_secret=path_secret,
        whitelist_cluster_wide=environment.flag("MOORGATE_WHITELIST_CLUSTER_WIDE", default=True),
        max_wait=environment.duration("MOORGATE_MAX_WAIT", "3s"),
        deadline_margin=environment.duration("MOORGATE_DEADLINE_MARGIN", "500ms"),
        scan_rate=parse_rate("MOORGATE_SCAN_RATE", environment.text("MOORGATE_SCAN_RATE", "50/min")),
        outbox=OutboxSettings.load(environment),
        release_labels=environment.words("MOORGATE_RELEASE_LABELS", releases.DEFAULT_LABELS),
        defaults=load_defaults(environment),
        log_level=environment.choice("MOORGATE_LOG_LEVEL", LogLevel, LogLevel.INFO),
        log_format=environment.choice("MOORGATE_LOG_FORMAT", LogFormat, LogFormat.JSON),
    )


def _policies_file(environment: Environment) -> Path | None:
    """A file whose policies can be used now."""
    path = environment.file(policies_file.SETTING)
    if path is not None:
        policies_file.read(path)
    return path


def _tls_files(environment: Environment) -> CertificateFiles | None:
    environment.refuse_without_cluster(
        "MOORGATE_TLS_ISSUER",
        TlsIssuer.FILE.value,
        why="the gateways keep what they issue in a Secret",
        instead="set MOORGATE_TLS_ISSUER=file, MOORGATE_TLS_CERT_FILE and MOORGATE_TLS_KEY_FILE",
    )
    names = "MOORGATE_TLS_CERT_FILE", "MOORGATE_TLS_KEY_FILE"
    if environment.choice("MOORGATE_TLS_ISSUER", TlsIssuer, TlsIssuer.FILE) is TlsIssuer.FILE:
        return CertificateFiles(*(_required(environment, name) for name in names))
    for name in names:
        if environment.optional(name):
            raise BadSetting(f"{name} is set, and so is MOORGATE_TLS_ISSUER=self: keep one")
    return None


def _check_callers(environment: Environment, client_ca: Path | None, secret: Secret | None) -> None:
    anyone = environment.flag("MOORGATE_ALLOW_ANY_CALLER", default=False)
    if client_ca is None and secret is None and not anyone:
        raise BadSetting(
            "MOORGATE_CLIENT_CA_FILE or MOORGATE_PATH_SECRET_FILE is required: whoever may post to the gateway "
            "can forge records (or set MOORGATE_ALLOW_ANY_CALLER=true)"
        )


def _required(environment: Environment, name: str) -> Path:
    environment.text(name)
    path = environment.file(name)
    if path is None:
        raise BadSetting(f"{name} is not set: it is required")
    return path
