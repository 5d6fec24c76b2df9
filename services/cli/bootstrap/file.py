"""The file that says what `moorgate bootstrap` is to make, as it is written.

    anchore: {url: http://anchore-api.anchore:8228, username: admin, passwordFile: admin.password}   # api, caFile, insecureSkipVerify
    account: {name: moorgate, email: moorgate@example.org}
    user: {name: moorgate}
    secret: {namespace: moorgate, name: moorgate-anchore}     # holds the user's generated password
    bundles: {predefined: all, files: [own.json], active: reject_critical}
    registries: [{namespace: moorgate, name: regcred}]        # Secrets of type dockerconfigjson; insecureSkipVerify
    notifications: {url: https://moorgate-scanner.moorgate:9443, secretFile: secret}   # insecureSkipVerify
    waitFor: 10m

Every section may be missing. Without `secret` the administrator's own account is set up, and nobody is created; without
`anchore` only the streams are made. Paths are relative to the file. Each fault is one line that names file and key.
"""

from typing import Annotated, Literal

import msgspec

from shared.anchore import AnchoreApi

WAIT_FOR = "10m"
"""How long a neighbour that is starting is waited for: Anchore takes minutes to set up a new database."""

_AnchoreName = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9@._=+-]{1,126}[a-zA-Z0-9_]\Z")]
"""Of accounts and users: what both APIs take, less what would need quoting in a path. No colon: basic authentication."""

_KubernetesName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")]


class Section(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Unknown keys are refused."""


class AnchoreSection(Section, frozen=True, kw_only=True):
    """Where Anchore is, and its administrator."""

    url: str
    api: AnchoreApi = AnchoreApi.AUTO
    username: str = "admin"
    password_file: str
    ca_file: str | None = None
    insecure_skip_verify: bool = False


class Account(Section, frozen=True, kw_only=True):
    """The Anchore account that Moorgate's user belongs to."""

    name: _AnchoreName = "moorgate"
    email: str | None = None


class User(Section, frozen=True, kw_only=True):
    """Moorgate's user, unique in all of Anchore."""

    name: _AnchoreName = "moorgate"


class SecretName(Section, frozen=True, kw_only=True):
    """A Secret in Kubernetes."""

    namespace: _KubernetesName
    name: _KubernetesName

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class RegistrySecret(SecretName, frozen=True, kw_only=True):
    """A Secret with credentials of registries."""

    insecure_skip_verify: bool = False
    """The registries' certificates are not verified."""


class BundlesSection(Section, frozen=True, kw_only=True):
    """What judges."""

    predefined: Literal["all"] | tuple[str, ...] = "all"
    files: tuple[str, ...] = ()
    active: str | None = None


class NotificationsSection(Section, frozen=True, kw_only=True):
    """Who hears of changes in Anchore."""

    url: str
    secret_file: str
    insecure_skip_verify: bool = False


class BootstrapFile(Section, frozen=True, kw_only=True):
    """All sections, each of which may be missing."""

    anchore: AnchoreSection | None = None
    account: Account | None = None
    user: User | None = None
    secret: SecretName | None = None
    bundles: BundlesSection = BundlesSection()
    registries: tuple[RegistrySecret, ...] = ()
    notifications: NotificationsSection | None = None
    wait_for: str = WAIT_FOR
