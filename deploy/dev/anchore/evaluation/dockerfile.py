"""The gate `dockerfile`: looks at the Dockerfile given with the image or guessed from its history.

The image's own configuration is not looked at: a port that only the configuration exposes is not seen.
"""

import hashlib
import re
from collections.abc import Callable

from deploy.dev.anchore.evaluation.subject import Match, Subject, dockerfile_lines

Params = dict[str, str]


def _match(trigger: str, message: str) -> Match:
    named = hashlib.md5(f"dockerfile{trigger}{message}".encode(), usedforsecurity=False)
    return Match(named.hexdigest(), message)


def _items(value: str) -> list[str]:
    return [item.strip() for item in value.split(",")]


def _is_for_actual_only(params: Params) -> bool:
    return params.get("actual_dockerfile_only", "false").lower() == "true"


def exposed_ports(subject: Subject, params: Params) -> list[Match]:
    """Ports of EXPOSE lines that are on the black list, or that are not on the white list."""
    if _is_for_actual_only(params) and not subject.dockerfile_is_actual:
        return []
    ports = _items(params["ports"])
    exposed = [
        port for line in dockerfile_lines(subject.dockerfile).get("EXPOSE", []) for port in line.split()[1:]
    ]
    if params["type"].lower() == "blacklist":
        shown = "Dockerfile exposes port ({}) which is in policy file DENIEDPORTS list"
        found = [
            port for wanted in ports for port in exposed if port in {wanted, f"{wanted}/tcp", f"{wanted}/udp"}
        ]
    else:
        shown = "Dockerfile exposes port ({}) which is not in policy file ALLOWEDPORTS list"
        found = [port for port in exposed if port.partition("/")[0] not in ports]
    return [_match("exposed_ports", shown.format(port)) for port in found]


def effective_user(subject: Subject, params: Params) -> list[Match]:
    """The last USER line decides; without one it is root."""
    lines = dockerfile_lines(subject.dockerfile)
    user = lines.get("USER", ["USER root"])[-1].split(None, 1)[-1].strip().strip("[]")
    listed = user in _items(params["users"])
    if params["type"].lower() == "whitelist":
        reason = None if listed else "which is not on the allowed list"
    else:
        reason = "which is explicity not allowed" if listed else None
    return (
        [] if reason is None else [_match("effective_user", f"User {user} found as effective user, {reason}")]
    )


_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda line, value: line == value,
    "!=": lambda line, value: line != value,
    "exists": lambda _line, _value: True,
    "like": lambda line, value: bool(re.match(value, line)),
    "not_like": lambda line, value: not re.match(value, line),
    "in": lambda line, value: line in _items(value),
    "not_in": lambda line, value: line not in _items(value),
}


def instruction(subject: Subject, params: Params) -> list[Match]:
    """Lines of one instruction against a condition, or that there are none."""
    if _is_for_actual_only(params) and not subject.dockerfile_is_actual:
        return []
    directive, check, value = params["instruction"].upper(), params["check"], params.get("value")
    lines = dockerfile_lines(subject.dockerfile).get(directive, [])
    if check == "not_exists":
        text = f"Dockerfile directive '{directive}' not found, matching condition 'not_exists' check"
        return [] if lines else [_match("instruction", text)]
    if value is None and check != "exists":
        return []
    matches = []
    for line in lines:
        rest = line[len(directive) :].strip()
        if _CHECKS[check](rest, value or ""):
            text = f"Dockerfile directive '{directive}' check '{check}' matched against '{value or ''}' for line '{rest}'"
            matches.append(_match("instruction", text))
    return matches


def no_dockerfile_provided(subject: Subject, _params: Params) -> list[Match]:
    """Fires for a guessed Dockerfile."""
    if subject.dockerfile_is_actual:
        return []
    return [_match("no_dockerfile_provided", "Image was not analyzed with an actual Dockerfile")]
