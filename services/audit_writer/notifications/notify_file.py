"""The file that `MOORGATE_NOTIFY_FILE` names, as typed targets: whom to tell of which flips, and how.

It is read once and checked before anything opens; each error is one line that names file, target and
key, and never shows an address or a secret: an incoming webhook's URL is one. Every value in the file
is a text (YAML would make a truth value of the key `on`, and a number of a label). Files named in it
are relative to its folder.
"""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import yaml

from services.audit_writer.notifications.targets import BOTH, Fault, Kind, Target, bearer_token, contents
from shared import yaml_files
from shared.contracts import Result, Tenant
from shared.errors import BadSetting
from shared.settings import Secret, parse_duration

SHORTEST, LONGEST = 60.0, 6 * 86400.0
"""Seconds a target may be tried: fewer than the tries take, or more than the stream keeps an event, would lie."""

SHORTEST_FIRING = 60.0
"""Seconds an alert may fire: less is over before Alertmanager groups it."""

_NAME = r"^[a-z0-9-]{1,40}(?!\n)$"
_CLUSTER = r"^[A-Za-z0-9._-]{1,63}(?!\n)$"
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e][\x20-\x7e]*)")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OUR_LABELS = frozenset({"alertname", "cluster", "namespace", "release", "image"})
_OUR_HEADERS = frozenset(
    "ce-id connection content-encoding content-length content-type expect host idempotency-key "
    "transfer-encoding upgrade x-moorgate-signature".split()
)


class _Strict(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """As written in the file."""


class _Entry(_Strict, frozen=True, kw_only=True, tag_field="type"):
    """What every target may say."""

    name: Annotated[str, msgspec.Meta(pattern=_NAME)]
    url: str = ""
    url_file: str = ""
    ca_file: str = ""
    headers_file: str = ""
    bearer_token_file: str = ""
    give_up_after: str = "24h"
    namespaces: tuple[str, ...] = ()
    tenants: tuple[Tenant, ...] = ()


class _Slack(_Entry, frozen=True, kw_only=True, tag="slack"):
    on: tuple[Result, ...] = BOTH


class _Webhook(_Entry, frozen=True, kw_only=True, tag="webhook"):
    on: tuple[Result, ...] = BOTH
    secret_file: str = ""


class _Alertmanager(_Entry, frozen=True, kw_only=True, tag="alertmanager"):
    """Without `on`: an alert that is never resolved would fire for nothing."""

    labels: dict[str, str] = {}
    fires_for: str = "168h"


class _File(_Strict, frozen=True, kw_only=True):
    targets: tuple[dict[str, object], ...]
    cluster: Annotated[str, msgspec.Meta(pattern=_CLUSTER)] | None = None


def load(path: Path | None) -> tuple[Target, ...]:
    """The targets in the file, none without a file. Raises `BadSetting` with the one line to show."""
    if path is None:
        return ()
    targets: dict[str, Target] = {}
    with _told_of(str(path)):
        text = contents("file", path)
        with _keys_named():
            file = msgspec.convert(_parsed(text), _File)
    for number, written in enumerate(file.targets, 1):
        with _told_of(f"{path}: target {_called(written, number)}"):
            target = _target(written, path.parent, file.cluster or "")
            _check_new(target, targets)
        targets[target.name] = target
    return tuple(targets.values())


def _target(written: dict[str, object], folder: Path, cluster: str) -> Target:
    with _keys_named():
        entry = msgspec.convert(written, _Slack | _Webhook | _Alertmanager)
    headers = _headers(contents("headersFile", folder / entry.headers_file)) if entry.headers_file else {}
    bearer = folder / entry.bearer_token_file if entry.bearer_token_file else None
    if bearer and "authorization" in {name.lower() for name in headers}:
        raise Fault("bearerTokenFile: headersFile has an Authorization already: keep one")
    if bearer:
        bearer_token(bearer)
    common = Target(
        name=entry.name,
        kind=Kind(str(entry.__struct_config__.tag)),
        url=_url(entry, folder),
        give_up_after=_seconds("giveUpAfter", entry.give_up_after, SHORTEST, LONGEST),
        cluster=cluster,
        namespaces=_globs(entry.namespaces),
        tenants=entry.tenants,
        headers=headers,
        bearer_token_file=bearer,
        ca_file=_ca_file(folder / entry.ca_file) if entry.ca_file else None,
    )
    return _with_its_own(common, entry, folder)


def _with_its_own(common: Target, entry: _Slack | _Webhook | _Alertmanager, folder: Path) -> Target:
    """The target with what only its type may say."""
    replace = msgspec.structs.replace
    match entry:
        case _Slack():
            return replace(common, on=_results(entry.on))
        case _Webhook():
            key = Secret(contents("secretFile", folder / entry.secret_file)) if entry.secret_file else None
            return replace(common, on=_results(entry.on), secret=key)
        case _Alertmanager():
            fires_for = _seconds("firesFor", entry.fires_for, SHORTEST_FIRING)
            return replace(common, labels=_labels(entry.labels), fires_for=fires_for)


def _parsed(text: str) -> object:
    try:
        return yaml_files.texts(text)
    except yaml.MarkedYAMLError as error:  # its own text would show the line, and with it an address
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise Fault(f"line {line}: no YAML") from None
    except yaml.YAMLError:
        raise Fault("no YAML") from None


@contextmanager
def _told_of(place: str) -> Iterator[None]:
    try:
        yield
    except Fault as fault:
        raise BadSetting(f"MOORGATE_NOTIFY_FILE: {place}: {fault}") from None


@contextmanager
def _keys_named() -> Iterator[None]:
    """The key first, then what is wrong with it."""
    try:
        yield
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        key = place.strip(".`")
        raise Fault(f"{key}: {what}" if key else what) from None


def _check_new(target: Target, others: dict[str, Target]) -> None:
    if target.name in others:
        raise Fault("name: another target has it already")


def _called(written: dict[str, object], number: int) -> str:
    """Its name where it has a proper one, else its number in the file."""
    name = written.get("name")
    return name if isinstance(name, str) and re.match(_NAME, name) else str(number)


def _url(entry: _Entry, folder: Path) -> Secret:
    if bool(entry.url) == bool(entry.url_file):
        raise Fault("url: give url or urlFile, and not both")
    key = "urlFile" if entry.url_file else "url"
    url = entry.url or contents(key, folder / entry.url_file)
    if not _is_address(url):
        raise Fault(f"{key}: it must be http(s)://host[:port]/path")
    if "@" in urlsplit(url).netloc:
        raise Fault(f"{key}: it holds credentials: use bearerTokenFile or headersFile")
    return Secret(url)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port of nonsense
        return False
    return is_complete and url.isprintable() and " " not in url and "#" not in url


def _headers(text: str) -> dict[str, Secret]:
    headers: dict[str, Secret] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found = _HEADER.fullmatch(line.strip())
        if found is None:
            raise Fault(f"headersFile: line {number} must be `Name: value`")
        if found[1].lower() in _OUR_HEADERS or found[1].lower() in {name.lower() for name in headers}:
            raise Fault(f"headersFile: line {number}: {found[1]} is set already")
        headers[found[1]] = Secret(found[2])
    return headers


def _seconds(key: str, written: str, least: float, most: float = float("inf")) -> float:
    try:
        seconds = parse_duration(written)
    except ValueError:
        seconds = -1.0
    if not least <= seconds <= most:
        limit = "" if most == float("inf") else f" and at most {most / 3600:g}h"
        raise Fault(f"{key}: it must be a duration such as 24h, at least {least:g}s{limit}")
    return seconds


def _results(on: tuple[Result, ...]) -> tuple[Result, ...]:
    if not on:
        raise Fault("on: it must name fail, pass or both")
    return on


def _globs(globs: tuple[str, ...]) -> tuple[str, ...]:
    for glob in globs:
        if not re.fullmatch(r"[a-z0-9*?\[\]!-]+", glob) or glob.count("[") != glob.count("]"):
            raise Fault(f"namespaces: {glob!r} is no glob of namespaces: use *, ? and […]")
    return globs


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for name in labels:
        if not _LABEL.fullmatch(name) or name in _OUR_LABELS:
            raise Fault(f"labels: {name!r} is no label's name, or one that Moorgate sets")
    return labels


def _ca_file(path: Path) -> Path:
    contents("caFile", path)
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise Fault(f"caFile: {path} holds no certificates (PEM)") from None
    return path
