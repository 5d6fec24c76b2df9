"""What `moorgate bootstrap` is to make, checked before anything is opened: the file that `MOORGATE_BOOTSTRAP_FILE` names.

Paths are relative to the file, secrets come from files of their own. Each fault is one line that names file and key.
"""

from pathlib import Path

import msgspec

from services.cli.bootstrap import bundles
from services.cli.bootstrap.bundle import Bundle
from services.cli.bootstrap.file import (
    Account,
    AnchoreSection,
    BootstrapFile,
    BundlesSection,
    NotificationsSection,
    RegistrySecret,
    SecretName,
    User,
)
from shared import yaml_files
from shared.anchore import AnchoreSettings
from shared.errors import BadSetting
from shared.settings import Environment, Secret, parse_duration
from shared.tenants import fault_of_ca, fault_of_url

NAME = "MOORGATE_BOOTSTRAP_FILE"


class Receiver(msgspec.Struct, frozen=True, kw_only=True):
    """Who hears of changes in Anchore: the scanners' own port."""

    url: str
    secret: Secret
    secret_file: str
    skip_verify: bool


class BootstrapSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, checked."""

    anchore: AnchoreSettings | None
    """As the administrator; None: streams only."""
    account: Account
    user: User
    secret: SecretName | None
    """None: the administrator's own account is used."""
    bundles: tuple[Bundle, ...]
    active: str | None
    """The bundle to activate; None: as it is."""
    registries: tuple[RegistrySecret, ...]
    receiver: Receiver | None
    wait_for: float
    """Seconds that a neighbour is waited for."""

    @property
    def known_anchore(self) -> AnchoreSettings:
        """The administrator's Anchore, where steps that need one are taken: `load` refuses them without it."""
        if self.anchore is None:
            raise BadSetting(f"{NAME}: anchore is missing, the section that says where it is")
        return self.anchore


def load(environment: Environment) -> BootstrapSettings:
    """The settings of the file. Raises `BadSetting` with the line to show."""
    path = environment.file(NAME)
    if path is None:
        raise BadSetting(f"{NAME} is not set: it must name the file that says what to make")
    file = _read(path)
    if not environment.has_cluster:
        _check_without_cluster(f"{NAME}: {path}", file)
    return _checked(path, file)


def _read(path: Path) -> BootstrapFile:
    content = yaml_files.document(NAME, path)
    try:
        return msgspec.convert({} if content is None else content, BootstrapFile)
    except msgspec.ValidationError as error:
        raise BadSetting(f"{NAME}: {path}: {error}") from error


def _checked(path: Path, file: BootstrapFile) -> BootstrapSettings:
    where = f"{NAME}: {path}"
    _check_sections(where, file)
    wanted = _bundles(where, path, file.bundles) if file.anchore else ()
    try:
        wait_for = parse_duration(file.wait_for)
    except ValueError:
        raise BadSetting(
            f"{where}: waitFor is {file.wait_for!r}: it must be a duration such as 90s or 10m"
        ) from None
    return BootstrapSettings(
        anchore=_anchore(where, path, file.anchore) if file.anchore else None,
        account=file.account or Account(),
        user=file.user or User(),
        secret=file.secret,
        bundles=wanted,
        active=file.bundles.active,
        registries=file.registries,
        receiver=_receiver(where, path, file.notifications) if file.notifications else None,
        wait_for=wait_for,
    )


def _check_without_cluster(where: str, file: BootstrapFile) -> None:
    advice = {
        "secret": "leave it out, with account and user: the account of anchore.username is set up, and nobody is made",
        "registries": "leave it out, and add the registries' credentials in Anchore",
    }
    for name, section in (("secret", file.secret), ("registries", file.registries)):
        if section:
            raise BadSetting(
                f"{where}: {name} needs Secrets of a cluster, and MOORGATE_CLUSTER is none: {advice[name]}"
            )


def _check_sections(where: str, file: BootstrapFile) -> None:
    needing = {
        "account": file.account,
        "user": file.user,
        "secret": file.secret,
        "bundles": file.bundles != BundlesSection(),
        "registries": file.registries,
        "notifications": file.notifications,
    }
    if file.anchore is None:
        for name, section in needing.items():
            if section:
                raise BadSetting(f"{where}: {name} needs anchore, the section that says where it is")
    if file.secret is None and (file.account or file.user):
        name = "account" if file.account else "user"
        raise BadSetting(f"{where}: {name} needs secret, the section that says where its password is kept")


def _anchore(where: str, path: Path, section: AnchoreSection) -> AnchoreSettings:
    if fault := fault_of_url(section.url):
        raise BadSetting(f"{where}: anchore.url {fault}: it must be http(s)://host[:port]")
    if ":" in section.username or not section.username:
        raise BadSetting(f"{where}: anchore.username is empty or holds a ':'")
    ca_file = path.parent / section.ca_file if section.ca_file else None
    if ca_file and (fault := fault_of_ca(ca_file)):
        raise BadSetting(f"{where}: anchore.caFile: {fault}")
    return AnchoreSettings(
        url=section.url,
        username=section.username,
        password=_secret(f"{where}: anchore.passwordFile", path.parent / section.password_file),
        api=section.api,
        ca_file=str(ca_file) if ca_file else None,
        skip_verify=section.insecure_skip_verify,
    )


def _bundles(where: str, path: Path, section: BundlesSection) -> tuple[Bundle, ...]:
    names = bundles.PREDEFINED if section.predefined == "all" else section.predefined
    if unknown := [name for name in names if name not in bundles.PREDEFINED]:
        known = ", ".join(bundles.PREDEFINED)
        raise BadSetting(
            f"{where}: bundles.predefined has {unknown[0]!r}: it must be all, or some of {known}"
        )
    files = [bundles.from_file(path.parent / each, f"{where}: bundles.files") for each in section.files]
    wanted = [*(bundles.predefined(name) for name in names), *files]
    ids = [each.id for each in wanted]
    if twice := next((name for name in ids if ids.count(name) > 1), None):
        raise BadSetting(f"{where}: bundles: two have the id {twice!r}")
    return tuple(wanted)


def _receiver(where: str, path: Path, section: NotificationsSection) -> Receiver:
    if fault := fault_of_url(section.url):
        raise BadSetting(f"{where}: notifications.url {fault}: it must be http(s)://host[:port]")
    return Receiver(
        url=f"{section.url.rstrip('/')}/notifications",
        secret=_secret(f"{where}: notifications.secretFile", path.parent / section.secret_file),
        secret_file=section.secret_file,
        skip_verify=section.insecure_skip_verify,
    )


def _secret(where: str, path: Path) -> Secret:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadSetting(f"{where}: cannot read {path}: {reason}") from error
    if not text:
        raise BadSetting(f"{where}: {path} is empty")
    return Secret(text)
