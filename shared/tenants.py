"""The tenants: which Anchore account judges for whom, from the settings and from a file (a mounted Secret).

    tenants:
      team-a:
        url: https://anchore-api.anchore:8228
        username: moorgate
        passwordFile: team-a.password     # beside this file; or password:
        account: team-a                   # optional: act for this account
        api: v2                           # optional: auto, v1 or v2
        bundle: strict                    # optional: judge by this one, whichever is active
        caFile: ca.pem                    # optional
        insecureSkipVerify: false         # optional

Scanners reload it; the command line reads it too. Every fault is one line that names the file, the tenant and the key.
"""

import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from shared import yaml_files
from shared.anchore import AnchoreApi, AnchoreSettings
from shared.errors import BadSetting
from shared.settings import Environment, Secret

DEFAULT_TENANT = "default"
"""The single tenant of `MOORGATE_ANCHORE_…`."""

_NAME = re.compile(r"[a-z0-9-]{1,40}", re.ASCII)


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's Anchore account."""

    anchore: AnchoreSettings
    bundle: str | None = None
    """Judges where a policy names none; None: the one that is active in Anchore."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    url: str
    username: str
    password: str | None = None
    password_file: str | None = None
    account: str | None = None
    api: AnchoreApi = AnchoreApi.AUTO
    bundle: str | None = None
    ca_file: str | None = None
    insecure_skip_verify: bool = False


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tenants: dict[str, Any]
    """Entries, decoded one by one: a fault names its tenant."""


class TenantSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the tenants come from: the environment, and a file that may change."""

    fixed: dict[str, Tenant] = {}
    path: Path | None = None

    def read(self) -> dict[str, Tenant]:
        """All of them as they are now. Raises `BadSetting` with the line to show."""
        if self.path is None:
            return self.fixed
        found = read(self.path)
        if both := found.keys() & self.fixed.keys():
            raise BadSetting(
                f"MOORGATE_TENANTS_FILE: {self.path} has a tenant {', '.join(both)},"
                " and MOORGATE_ANCHORE_URL is set: keep one"
            )
        return self.fixed | found


def load(environment: Environment) -> TenantSource:
    """The file's tenants, and `default` where `MOORGATE_ANCHORE_URL` is set. Raises `BadSetting`."""
    path = environment.file("MOORGATE_TENANTS_FILE")
    fixed = {}
    if path is None or environment.optional("MOORGATE_ANCHORE_URL"):
        fixed[DEFAULT_TENANT] = Tenant(anchore=from_environment(environment))
    source = TenantSource(fixed=fixed, path=path)
    source.read()
    return source


def read(path: Path) -> dict[str, Tenant]:
    """The tenants of a file. Raises `BadSetting` with the line to show."""
    try:
        content = msgspec.convert(yaml_files.document("MOORGATE_TENANTS_FILE", path), _File)
    except msgspec.ValidationError as error:
        raise BadSetting(f"MOORGATE_TENANTS_FILE: {path}: {error}") from error
    return {name: _tenant(path, name, given) for name, given in content.tenants.items()}


def from_environment(environment: Environment) -> AnchoreSettings:
    """The Anchore of `MOORGATE_ANCHORE_…`. Raises `BadSetting`."""
    password = environment.secret("MOORGATE_ANCHORE_PASSWORD")
    if password is None:
        raise BadSetting(
            "MOORGATE_ANCHORE_PASSWORD_FILE (or MOORGATE_ANCHORE_PASSWORD) is not set: it is required"
        )
    url = environment.text("MOORGATE_ANCHORE_URL")
    if fault := fault_of_url(url):
        raise BadSetting(f"MOORGATE_ANCHORE_URL {fault}: it must be http(s)://host[:port]")
    username = environment.text("MOORGATE_ANCHORE_USERNAME", "admin")
    if ":" in username:
        raise BadSetting("MOORGATE_ANCHORE_USERNAME holds a ':': HTTP basic authentication cannot carry that")
    ca_file = environment.file("MOORGATE_ANCHORE_CA_FILE")
    if ca_file and (fault := fault_of_ca(ca_file)):
        raise BadSetting(f"MOORGATE_ANCHORE_CA_FILE: {fault}")
    return AnchoreSettings(
        url=url,
        username=username,
        password=password,
        api=environment.choice("MOORGATE_ANCHORE_API", AnchoreApi, AnchoreApi.AUTO),
        ca_file=str(ca_file) if ca_file else None,
        skip_verify=environment.flag("MOORGATE_ANCHORE_INSECURE_SKIP_VERIFY", default=False),
    )


def _tenant(path: Path, name: str, given: Any) -> Tenant:
    where = f"MOORGATE_TENANTS_FILE: {path}: tenant {name[:60]!r}"
    if not _NAME.fullmatch(name):
        raise BadSetting(f"{where}: a name is 1 to 40 of a-z, 0-9 and -")
    try:
        entry = msgspec.convert(given, _Entry)
    except msgspec.ValidationError as error:
        raise BadSetting(f"{where}: {error}") from error
    if fault := fault_of_url(entry.url):
        raise BadSetting(f"{where}: url {fault}: it must be http(s)://host[:port]")
    if ":" in entry.username or not entry.username:
        raise BadSetting(
            f"{where}: username is empty or holds a ':', which basic authentication cannot carry"
        )
    if entry.account and not entry.account.isprintable():
        raise BadSetting(f"{where}: account holds what no header can carry")
    ca_file = path.parent / entry.ca_file if entry.ca_file else None
    if ca_file and (fault := fault_of_ca(ca_file)):
        raise BadSetting(f"{where}: caFile: {fault}")
    anchore = AnchoreSettings(
        url=entry.url,
        username=entry.username,
        password=_password(where, path, entry),
        api=entry.api,
        ca_file=str(ca_file) if ca_file else None,
        skip_verify=entry.insecure_skip_verify,
        account=entry.account,
    )
    return Tenant(anchore=anchore, bundle=entry.bundle or None)


def _password(where: str, path: Path, entry: _Entry) -> Secret:
    if (entry.password is None) == (entry.password_file is None):
        raise BadSetting(f"{where}: give either password or passwordFile")
    password = entry.password
    if entry.password_file is not None:
        try:
            password = (path.parent / entry.password_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise BadSetting(f"{where}: passwordFile: cannot read {entry.password_file}: {reason}") from error
    if not password:
        raise BadSetting(f"{where}: the password is empty")
    return Secret(password)


def fault_of_url(url: str) -> str | None:
    """What is wrong with an address; one with credentials is not repeated."""
    if "@" in url:
        return "holds credentials, which have keys of their own"
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname and parts.port != 0)
        is_good = is_good and url.isprintable() and not set(url) & set(" ?#")
    except ValueError:  # brackets or a port of nonsense
        is_good = False
    return None if is_good else f"is {url!r}"


def fault_of_ca(path: Path) -> str | None:
    """What is wrong with a file of certificates."""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return f"{path} holds no certificates (PEM)"
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    return None
