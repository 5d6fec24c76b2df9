"""What `moorgate secrets apply` makes up: passwords of NATS' users, and the secret part of the webhooks' path.

NATS reads a password from its environment as it reads a value of its configuration file: digits alone would be a
number, `10m` a size, and a `-` may end the word. So passwords begin with a letter and have letters and digits only.
"""

import secrets

from services.cli.bootstrap.secrets import KubeSecret

USERS = ("gateway", "scanner", "audit-writer", "integrator", "operator")
"""The users that deploy/helm/moorgate/files/nats knows; keys of the Secret."""

PATH_SECRET = "secret"  # noqa: S105  a key's name
"""The key of the path's Secret."""

_BYTES = 24
"""192 bits: nobody guesses that, and it need never be changed for its length."""


def users(present: KubeSecret | None) -> dict[str, str]:
    """Passwords of those who have none."""
    return {name: f"m{secrets.token_hex(_BYTES)}" for name in USERS if not _has(present, name)}


def path(present: KubeSecret | None) -> dict[str, str]:
    """The path's secret, where there is none: letters and digits, since it is part of a URL."""
    return {} if _has(present, PATH_SECRET) else {PATH_SECRET: secrets.token_hex(_BYTES)}


def _has(present: KubeSecret | None, key: str) -> bool:
    """An empty password would let everybody in: it counts as none."""
    return present is not None and bool(present.data.get(key))
