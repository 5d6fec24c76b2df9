"""Settings: read once from the environment, checked before anything is opened.

A wrong or missing value, and a `MOORGATE_…` name that no part of Moorgate knows, stop the process
with one line that names the setting and says what it must be. A secret may also come from the file
that `…_FILE` names, and lives in a `Secret`, which does not print.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import TypeVar

import msgspec

from shared.errors import BadSetting

KNOWN = frozenset(
    f"MOORGATE_{name}"
    for name in """
    NAMESPACE NATS_URL NATS_USER NATS_PASSWORD NATS_CREDS_FILE NATS_CA_FILE NATS_CERT_FILE NATS_KEY_FILE
    NATS_REPLICAS CLUSTER POLICIES_FILE METRICS_LISTEN LOG_LEVEL LOG_FORMAT
    LISTEN TLS_CERT_FILE TLS_KEY_FILE TLS_ISSUER CLIENT_CA_FILE PATH_SECRET ALLOW_ANY_CALLER
    WHITELIST_CLUSTER_WIDE MAX_WAIT DEADLINE_MARGIN SCAN_RATE OUTBOX_DIR OUTBOX_SIZE DECISION_DURABILITY ON_UNRECORDED
    RELEASE_LABELS MODE ON_PENDING ON_ERROR
    ANCHORE_URL ANCHORE_API ANCHORE_USERNAME ANCHORE_PASSWORD ANCHORE_CA_FILE ANCHORE_INSECURE_SKIP_VERIFY
    SCANNER_CONCURRENCY PASS_TTL FAIL_TTL TAG_TTL KNOWN_TTL PENDING_LIMIT ON_UNMAPPED TENANTS_FILE
    NOTIFICATIONS_LISTEN NOTIFICATIONS_CERT_FILE NOTIFICATIONS_KEY_FILE NOTIFICATIONS_SECRET
    AUDIT_RETENTION INVENTORY_INTERVAL RESCAN_INTERVAL NOTIFY_FILE REPORTS
    PAGE_LISTEN PAGE_CERT_FILE PAGE_KEY_FILE BOOTSTRAP_FILE
    """.split()
)
"""Every setting of every service: one environment may serve them all (compose, `make dev`)."""

_SECRETS = frozenset(
    f"MOORGATE_{name}" for name in "NATS_PASSWORD PATH_SECRET ANCHORE_PASSWORD NOTIFICATIONS_SECRET".split()
)

_SERVICE_LINK = re.compile(
    r"MOORGATE(_[A-Z0-9_]*?)?(_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|_PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)"
)
"""What the kubelet puts into every container for a Service called `moorgate` or `moorgate-…`: not settings.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

_DURATION = re.compile(r"(?:\d+(?:\.\d*)?(?:ms|s|m|h))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 100 * 365 * 86400.0
"""Seconds; a time so far from now is still a date."""

_SIZE = re.compile(r"([0-9]{1,15})(|Ki|Mi|Gi)")
_UNITS = {"": 1, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
_FLAGS = {"true": True, "false": False, "1": True, "0": False}
_MAX_PORT = 65535
_NUMBER = re.compile(r"[0-9]{1,18}")
"""A whole number; Python refuses to read one of thousands of digits."""

E = TypeVar("E", bound=Enum)


class Secret:
    """A text that shows itself only to whoever asks by `reveal()`: not in logs, errors or reprs."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class ClusterUse(Enum):
    """Whether there is a cluster."""

    AUTO = "auto"
    """That of `KUBECONFIG`, else the one this Pod runs in."""
    NONE = "none"
    """None is looked for: policies come from a file, and Audits go to stdout."""


class Listen(msgspec.Struct, frozen=True):
    """An address to listen on; port 0 takes a free one."""

    host: str
    port: int


def parse_duration(text: str) -> float:
    """Seconds of a duration written as in Go (`90s`, `1h30m`, `250ms`; a bare `0` too), at most 100 years.

    Raises `ValueError`.
    """
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError(text)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if seconds > _LONGEST:
        raise ValueError(text)
    return seconds


class Environment:
    """The environment as typed settings. Every method raises `BadSetting` with the one line to show."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        for name in variables:
            if name.startswith("MOORGATE_") and not _is_known(name):
                raise BadSetting(f"{name} is no setting of Moorgate: remove it or correct its name")
            if name in KNOWN and not _is_text(variables[name]):
                raise BadSetting(f"{name} is not UTF-8 text")
        self.cluster = self.choice("MOORGATE_CLUSTER", ClusterUse, ClusterUse.AUTO)
        if self.has_cluster and self.optional("MOORGATE_POLICIES_FILE"):
            raise BadSetting(
                "MOORGATE_POLICIES_FILE is set, and policies come from the cluster: remove it, or set MOORGATE_CLUSTER=none"
            )

    @property
    def has_cluster(self) -> bool:
        """False: nobody looks for an API server."""
        return self.cluster is not ClusterUse.NONE

    def refuse_without_cluster(self, name: str, *harmless: str, why: str, instead: str) -> None:
        """Raises `BadSetting` where `name` has any but a harmless value, and there is no cluster for it."""
        value = self.optional(name)
        if not self.has_cluster and value is not None and value not in harmless:
            raise BadSetting(f"{name} is {value!r}, and MOORGATE_CLUSTER is none: {why}; {instead}")

    def text(self, name: str, default: str | None = None) -> str:
        """The value; without `default` it is required. An empty value counts as not set."""
        value = self._variables.get(name) or default
        if value is None:
            raise BadSetting(f"{name} is not set: it is required")
        return value

    def optional(self, name: str) -> str | None:
        """The value, or None where it is not set or empty."""
        return self._variables.get(name) or None

    def words(self, name: str, default: str) -> tuple[str, ...]:
        """A list separated by commas."""
        return tuple(word.strip() for word in self.text(name, default).split(",") if word.strip())

    def duration(
        self, name: str, default: str, *, minimum: float = 0.0, maximum: float | None = None
    ) -> float:
        """Seconds; written as in Go (`90s`, `6h`)."""
        value = self.text(name, default)
        try:
            seconds = parse_duration(value)
        except ValueError:
            raise self._bad(name, "a duration such as 90s, 15m or 6h") from None
        if seconds < minimum:
            raise self._bad(name, f"at least {timedelta(seconds=minimum)}")
        if maximum is not None and seconds > maximum:
            raise self._bad(name, f"at most {timedelta(seconds=maximum)}")
        return seconds

    def integer(self, name: str, default: int, *, minimum: int = 1) -> int:
        """A whole number of at least `minimum`."""
        value = self.text(name, str(default))
        if not _NUMBER.fullmatch(value) or int(value) < minimum:
            raise self._bad(name, f"a whole number of at least {minimum}")
        return int(value)

    def size(self, name: str, default: str, *, minimum: int, maximum: int) -> int:
        """Bytes; written as Kubernetes does (`128Mi`)."""
        found = _SIZE.fullmatch(self.text(name, default))
        number = int(found[1]) * _UNITS[found[2]] if found else 0
        if not minimum <= number <= maximum:
            mib = 1024**2
            raise self._bad(name, f"a size such as 128Mi, from {minimum // mib}Mi to {maximum // mib}Mi")
        return number

    def flag(self, name: str, *, default: bool) -> bool:
        """`true` or `false` (also `1`, `0`)."""
        value = self.text(name, str(default)).lower()
        if value not in _FLAGS:
            raise self._bad(name, "true or false")
        return _FLAGS[value]

    def choice(self, name: str, kind: type[E], default: E) -> E:
        """One of the values of `kind`."""
        value = self.text(name, str(default.value))
        try:
            return kind(value)
        except ValueError:
            raise self._bad(name, "one of " + ", ".join(str(member.value) for member in kind)) from None

    def listen(self, name: str, default: str) -> Listen:
        """`host:port`; an IPv6 host in brackets."""
        host, colon, port = self.text(name, default).rpartition(":")
        if not colon or not _NUMBER.fullmatch(port) or int(port) > _MAX_PORT:
            raise self._bad(name, "host:port, such as 0.0.0.0:9090")
        return Listen(host=host.strip("[]") or "0.0.0.0", port=int(port))  # noqa: S104  ":9090" means every address

    def file(self, name: str) -> Path | None:
        """A file that can be read now, or None where it is not set."""
        value = self.optional(name)
        if value is None:
            return None
        path = Path(value)
        _read(name, path)
        return path

    def required_file(self, name: str) -> Path:
        """A file that must be named, and can be read now."""
        path = Path(self.text(name))
        self.file(name)
        return path

    def secret(self, name: str) -> Secret | None:
        """The secret from `name`, or from the file that `name_FILE` names; None where neither is set."""
        value, path = self.optional(name), self.optional(f"{name}_FILE")
        if value and path:
            raise BadSetting(f"{name} and {name}_FILE are both set: keep one")
        if path:
            value = _read(f"{name}_FILE", Path(path)).strip()
            if not value:
                raise BadSetting(f"{name}_FILE: {path} is empty")
        return Secret(value) if value else None

    def _bad(self, name: str, expected: str) -> BadSetting:
        return BadSetting(f"{name} is {self._variables.get(name)!r}: it must be {expected}")


def _is_text(value: str) -> bool:
    """False for what Python makes of an environment's bytes that are no UTF-8: nothing could be sent of it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_known(name: str) -> bool:
    by_file = name.removesuffix("_FILE") in _SECRETS and name.endswith("_FILE")
    return name in KNOWN or by_file or _SERVICE_LINK.fullmatch(name) is not None


def _read(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadSetting(f"{name}: cannot read {path}: {reason}") from error
