"""The targets of notifications: whom to tell of which flips, and how.

notify_file.py makes them of what the operator wrote. Addresses and secrets are `Secret`s, which do not
print. The bearer token alone is read again at each call, here.
"""

import re
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from shared.contracts import Result, VerdictFlipped
from shared.settings import Secret

BOTH = (Result.FAIL, Result.PASS)
"""What a target hears of unless it says otherwise."""

_TOKEN = re.compile(r"[!-~]+")


class Kind(StrEnum):
    """What is spoken to a target: `type` in the file."""

    SLACK = "slack"
    WEBHOOK = "webhook"
    ALERTMANAGER = "alertmanager"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One receiver of notifications. What its files hold was read at the start, save the bearer token."""

    name: str
    kind: Kind
    url: Secret
    give_up_after: float
    """Seconds after the flip until which delivery is tried."""
    cluster: str = ""
    """How the operator calls this cluster; empty: there is but one."""
    on: tuple[Result, ...] = BOTH
    namespaces: tuple[str, ...] = ()
    """Globs; empty: all."""
    tenants: tuple[str, ...] = ()
    """Empty: all."""
    headers: dict[str, Secret] = {}
    bearer_token_file: Path | None = None
    """Read at each call: such tokens are renewed in place."""
    ca_file: Path | None = None
    secret: Secret | None = None
    """Signs what is sent to a webhook."""
    labels: dict[str, str] = {}
    """Added to Alertmanager's alerts."""
    fires_for: float = 0.0
    """Seconds an alert fires where nothing is heard of a flip back."""

    def wants(self, event: VerdictFlipped) -> bool:
        """Whether this target is to hear of the flip."""
        return (
            event.result in self.on
            and (not self.tenants or event.tenant in self.tenants)
            and (not self.namespaces or any(fnmatchcase(event.namespace, glob) for glob in self.namespaces))
        )


class Fault(Exception):
    """What is wrong, beginning with the key at fault."""


class TokenUnreadable(Fault):
    """The bearer token's file holds no token, perhaps for now: it is renewed in place."""


def contents(key: str, path: Path) -> str:
    """What the file holds, without blanks around it. Raises `Fault`, beginning with `key`."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text, or no path"
        raise Fault(f"{key}: cannot read {path}: {why}") from None
    if not text:
        raise Fault(f"{key}: {path} is empty")
    return text


def bearer_token(path: Path) -> str:
    """The token as the file has it now. Raises `TokenUnreadable` while that is none."""
    try:
        token = contents("bearerTokenFile", path)
    except Fault as fault:
        raise TokenUnreadable(str(fault)) from None
    if not _TOKEN.fullmatch(token):
        raise TokenUnreadable(f"bearerTokenFile: {path} must hold one token and nothing else")
    return token
