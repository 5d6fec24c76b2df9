"""Where the page is served. Read with all other settings, before anything of the page is imported."""

import msgspec

from shared.certificates import CertificateFiles
from shared.settings import Environment, Listen

SETTINGS = "MOORGATE_PAGE"
"""What the names of all settings of the page begin with."""


class PageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The page's port."""

    listen: Listen
    files: CertificateFiles


def load(environment: Environment) -> PageSettings | None:
    """None: there is no page. Raises `BadSetting`."""
    listen = f"{SETTINGS}_LISTEN"
    environment.refuse_without_cluster(
        listen, why="the page shows a cluster's Audits, and asks it who may see them", instead="remove it"
    )
    if environment.optional(listen) is None:
        return None
    files = (environment.required_file(f"{SETTINGS}_{kind}_FILE") for kind in ("CERT", "KEY"))
    return PageSettings(listen=environment.listen(listen, ""), files=CertificateFiles(*files))
