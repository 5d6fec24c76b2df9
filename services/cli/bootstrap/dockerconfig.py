"""The content of a dockerconfigjson Secret as logins that Anchore can use. Pure.

An entry's key is a host, a host with the beginning of a path, or an old URL such as `https://index.docker.io/v1/`, which
means docker.io. Its credentials are `username` and `password`, or both in `auth`. Entries without (tokens of identity
providers, helpers) and hosts with wildcards are no use to Anchore, and are reported.

Source: https://kubernetes.io/docs/concepts/containers/images/#config-json
"""

import base64
import binascii
import re

import msgspec

from shared.settings import Secret

_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_OLD_PATHS = ("/v1", "/v2")
_SCHEME = re.compile(r"^https?://")


class BadDockerConfig(ValueError):
    """The text is none; why stands in the message, and no content of it."""


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials of one registry, by the name that Anchore knows it by."""

    registry: str
    username: str
    password: Secret


class _Entry(msgspec.Struct, frozen=True):
    username: str | None = None
    password: str | None = None
    auth: str | None = None


class _File(msgspec.Struct, frozen=True):
    auths: dict[str, _Entry | None]


def read_logins(text: str) -> tuple[list[Login], list[str]]:
    """The logins, and a line for each entry that is none. Raises `BadDockerConfig`."""
    if not text:
        raise BadDockerConfig("is missing or no text")
    try:
        entries = msgspec.json.decode(text, type=_File).auths
    except msgspec.MsgspecError as error:
        raise BadDockerConfig("is no docker configuration: JSON with auths is needed") from error
    logins, faults = [], []
    for key, entry in entries.items():
        credentials = _credentials(entry or _Entry())
        registry = registry_name(key)
        if "*" in registry.partition("/")[0] or "?" in registry or "[" in registry:
            faults.append(f"{key}: Anchore knows no wildcards in a host, nothing is registered")
        elif credentials is None:
            faults.append(f"{key}: no user and password in it, nothing is registered")
        else:
            logins.append(Login(registry=registry, username=credentials[0], password=Secret(credentials[1])))
    return logins, faults


def registry_name(key: str) -> str:
    """`docker.io`, `host:port`, or `host/path*` for a key with a path, which holds for all below it."""
    host, slash, path = _SCHEME.sub("", key.strip()).rstrip("/").partition("/")
    host = "docker.io" if host.lower() in _DOCKER_HUB else host.lower()
    return f"{host}/{path.rstrip('*')}*" if path and f"{slash}{path}" not in _OLD_PATHS else host


def _credentials(entry: _Entry) -> tuple[str, str] | None:
    if entry.username and entry.password:
        return entry.username, entry.password
    try:
        username, _, password = base64.b64decode(entry.auth or "", validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    password = password.strip("\0")
    return (username, password) if username and password else None
