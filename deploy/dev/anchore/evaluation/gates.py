"""All gates by name: those that are evaluated here, with their triggers and parameters, and those that are only known.

A rule of a gate that is only known passes validation and never fires: its bundle can be stored, shown and activated.
"""

from collections.abc import Callable

import msgspec

from deploy.dev.anchore.evaluation import dockerfile, vulnerabilities
from deploy.dev.anchore.evaluation.subject import Match, Subject

KNOWN_GATES = (
    *(
        "always",
        "dockerfile",
        "suiddiff",
        "imagecheck",
        "pkgdiff",
        "anchoresec",
        "pkgcheck",
        "dockerfilecheck",
        "filecheck",
    ),
    *(
        "fileparse_passwd",
        "gemcheck",
        "metadatacheck",
        "licblacklist",
        "npmcheck",
        "pkgblacklist",
        "secretcheck",
        "files",
    ),
    *(
        "ruby_gems",
        "metadata",
        "licenses",
        "malware",
        "npms",
        "packages",
        "passwd_file",
        "retrieved_files",
        "secret_scans",
    ),
    "vulnerabilities",
)
"""In the order in which the real server's validation message lists them."""


class Param(msgspec.Struct, frozen=True):
    """One parameter of a trigger: what it must look like."""

    required: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""


class Trigger(msgspec.Struct, frozen=True):
    """One trigger of a gate."""

    fire: Callable[[Subject, dict[str, str]], list[Match]]
    params: dict[str, Param]


_NUMBERS = r"\s*(\s*\d+\s*,)*\s*\d+\s*"
_NUMBER = r"\s*\d+\s*"
_FLOAT = r"\s*-*\d*(\.\d*)?\s*"
_LISTED = Param(required=True, choices=("whitelist", "blacklist"))
_BOOLEAN = Param(choices=("true", "false"))
_COMPARISON = Param(choices=tuple(vulnerabilities.COMPARISONS))
_INSTRUCTIONS = (
    *(
        "ADD",
        "ARG",
        "COPY",
        "CMD",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
    ),
    *("USER", "RUN", "SHELL", "STOPSIGNAL", "VOLUME", "WORKDIR"),
)
_CHECKS = ("=", "!=", "exists", "not_exists", "like", "not_like", "in", "not_in")
_SCORES = tuple(
    f"{vendor}cvss_v3_{score}"
    for vendor in ("", "vendor_")
    for score in ("base_score", "exploitability_score", "impact_score")
)
"""Accepted and not evaluated: the catalogue's findings have no scores."""


def _always(_subject: Subject, _params: dict[str, str]) -> list[Match]:
    return [Match("always", "Unconditional trigger match")]


_PACKAGE = {
    "package_type": Param(required=True, choices=("all", "os", "non-os")),
    "severity_comparison": _COMPARISON,
    "severity": Param(choices=tuple(vulnerabilities.SEVERITIES)),
    "fix_available": _BOOLEAN,
    "vendor_only": _BOOLEAN,
    "max_days_since_creation": Param(pattern=_NUMBER),
    "max_days_since_fix": Param(pattern=_NUMBER),
    "package_path_exclude": Param(),
    **{name: Param(pattern=_FLOAT) for name in _SCORES},
    **{f"{name}_comparison": _COMPARISON for name in _SCORES},
}

GATES: dict[str, dict[str, Trigger]] = {
    "always": {"always": Trigger(_always, {})},
    "dockerfile": {
        "instruction": Trigger(
            dockerfile.instruction,
            {
                "instruction": Param(required=True, choices=_INSTRUCTIONS),
                "check": Param(required=True, choices=_CHECKS),
                "value": Param(),
                "actual_dockerfile_only": _BOOLEAN,
            },
        ),
        "effective_user": Trigger(
            dockerfile.effective_user, {"users": Param(required=True), "type": _LISTED}
        ),
        "exposed_ports": Trigger(
            dockerfile.exposed_ports,
            {
                "ports": Param(required=True, pattern=_NUMBERS),
                "type": _LISTED,
                "actual_dockerfile_only": _BOOLEAN,
            },
        ),
        "no_dockerfile_provided": Trigger(dockerfile.no_dockerfile_provided, {}),
    },
    "vulnerabilities": {
        "package": Trigger(vulnerabilities.package, _PACKAGE),
        "stale_feed_data": Trigger(
            vulnerabilities.stale_feed_data, {"max_days_since_sync": Param(required=True, pattern=_NUMBER)}
        ),
        "vulnerability_data_unavailable": Trigger(vulnerabilities.vulnerability_data_unavailable, {}),
        "blacklist": Trigger(
            vulnerabilities.blacklist, {"vulnerability_ids": Param(required=True), "vendor_only": _BOOLEAN}
        ),
    },
}
