"""docs/reference/settings.md: every setting, found by letting each service read its configuration and noting what it asks.

So type, default, bounds and who reads what are those of the code that runs; `shared/setting_texts.py` says what each is
for. Configurations are read under several environments, for some settings are asked for only beside others.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from deploy.dev.reference.markdown import table
from deploy.dev.reference.notebook import Notebook, Reading
from deploy.dev.services import ROOT
from services.audit_writer import config as audit_writer
from services.cli.bootstrap import settings as bootstrap
from services.gateway import config as gateway
from services.scanner import config as scanner
from shared import streams, tenants
from shared.broker import BrokerSettings
from shared.errors import BadSetting
from shared.policies import load_defaults
from shared.setting_texts import TEXTS
from shared.settings import _SECRETS, KNOWN

INTRODUCTION = """\
# Reference: settings

All settings come from the environment. One environment may serve all services: each reads what it needs. A wrong or missing
value, and a name that begins with `MOORGATE_` and is not in this list, stop the process at once with one line that says what to
do. An empty value counts as not set. Durations are written as in Go: `90s`, `15m`, `1h30m`. Every file must be readable when the
process starts. The chart sets all of this from its [values](../../deploy/helm/moorgate/README.md).

Beside them `KUBECONFIG` says which cluster; without it the services take the one they run in. What is marked † the operator's
[commands](../command-line.md) read as well; give them what the services have."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "All services": ("gateway", "scanner", "audit-writer"),
    "Gateway": ("gateway",),
    "Gateway and audit-writer": ("gateway", "audit-writer"),
    "Scanner": ("scanner",),
    "Audit-writer": ("audit-writer",),
    "Command line": (),
}
"""Titles, by the services that read what stands below them."""

COMMANDS = "command line"

_ASKED = re.compile(r"[eE]nvironment(?:\(os\.environ\))?\.\w+\(\s*\"(MOORGATE_\w+)\"")


def page() -> str:
    """The page."""
    readings, readers = read_all()
    parts = [INTRODUCTION]
    for title, services in GROUPS.items():
        names = [name for name in TEXTS if name in readings and group_of(readers[name]) == services]
        parts.append(
            f"## {title}\n\n" + table(("setting", "must be", "default", ""), _rows(names, readings, readers))
        )
    return "\n\n".join(parts)


def group_of(readers: set[str]) -> tuple[str, ...]:
    """The services; the command line comes beside them."""
    return tuple(each for each in GROUPS["All services"] if each in readers)


def read_all() -> tuple[dict[str, Reading], dict[str, set[str]]]:
    """What was asked about each setting, and who asked."""
    readings: dict[str, Reading] = {}
    readers: dict[str, set[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for service, read in READERS.items():
            for variables in environments(Path(folder)):
                noted: dict[str, Reading] = {}
                read(variables, noted)
                for name in noted.keys() & KNOWN:  # a secret's file is told of with the secret
                    if name not in readings or readings[name].weight < noted[name].weight:
                        readings[name] = noted[name]
                    readers.setdefault(name, set()).add(service)
    for name in _named_by_commands() & readers.keys():
        readers[name].add(COMMANDS)
    return readings, readers


def _named_by_commands() -> set[str]:
    """What the operator's commands ask for beside what `_command_line` loads."""
    files = sorted((ROOT / "services" / "cli").glob("*.py"))
    return {name for file in files for name in _ASKED.findall(file.read_text(encoding="utf-8"))}


def environments(folder: Path) -> Iterator[dict[str, str]]:
    """Under these each setting is asked for by whoever reads it."""
    file = folder / "file"
    file.write_text("x")
    least = {
        "PATH_SECRET": "x", "TLS_CERT_FILE": str(file), "TLS_KEY_FILE": str(file),
        "ANCHORE_URL": "http://anchore:8228", "ANCHORE_PASSWORD": "x",
    }  # fmt: skip
    ports = {
        f"{port}_{what}": value
        for port in ("NOTIFICATIONS", "PAGE")
        for what, value in {"LISTEN": ":0", "CERT_FILE": str(file), "KEY_FILE": str(file)}.items()
    }
    for chosen in (least, least | ports | {"NOTIFICATIONS_SECRET": "x", "OUTBOX_DIR": str(folder)}):
        yield {f"MOORGATE_{name}": value for name, value in chosen.items()}


def _service(module: Any) -> Callable[[Mapping[str, str], dict[str, Reading]], None]:
    """A service's own way to its configuration, with a notebook for its environment."""

    def read(variables: Mapping[str, str], noted: dict[str, Reading]) -> None:
        with patch.object(module, "Environment", lambda given: Notebook(given, noted)):
            module.load(variables)

    return read


def _command_line(variables: Mapping[str, str], noted: dict[str, Reading]) -> None:
    """What its commands ask for together. The bootstrap's file isn't there: that it was wanted is enough."""
    environment = Notebook(variables, noted)
    BrokerSettings.load(environment)
    load_defaults(environment)
    tenants.load(environment)
    streams.load_replicas(environment)
    try:
        bootstrap.load(environment)
    except BadSetting:
        return


READERS = {
    "gateway": _service(gateway),
    "scanner": _service(scanner),
    "audit-writer": _service(audit_writer),
    COMMANDS: _command_line,
}


def _rows(
    names: list[str], readings: Mapping[str, Reading], readers: Mapping[str, set[str]]
) -> Iterator[tuple[str, str, str, str]]:
    for name in names:
        reading = readings[name]
        mark = " †" if COMMANDS in readers[name] and len(readers[name]) > 1 else ""
        shown = (f"`{name}`, or `{name}_FILE`" if name in _SECRETS else f"`{name}`") + mark
        default = {"": "", "required": "required"}.get(reading.default, f"`{reading.default}`")
        yield shown, reading.kind, default, TEXTS[name]


def missing() -> set[str]:
    """Settings that nobody was seen to ask for."""
    return set(KNOWN - read_all()[0].keys())
