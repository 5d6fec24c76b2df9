"""What this machine runs in place of an image: the same program, from this environment.

And the one thing that is told otherwise: where it listens, because Pods share this machine's network.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.dev.installed.containers import Json, NotUnderstoodError, listening_on
from deploy.dev.programs import installed

ROOT = Path(__file__).parents[3]
CLUSTER_PORT = 6222


class Program(Protocol):
    """An image's stand-in."""

    entrypoint: list[str]

    def further_arguments(self, address: str, template: Json) -> list[str]: ...  # noqa: D102
    def rewritten(self, address: str, variables: Mapping[str, str]) -> dict[str, str]: ...  # noqa: D102


@dataclass
class Moorgate:
    """Our image: `moorgate` is its entry point."""

    entrypoint: list[str]

    def further_arguments(self, _address: str, _template: Json) -> list[str]:
        """None: settings say it."""
        return []

    def rewritten(self, address: str, variables: Mapping[str, str]) -> dict[str, str]:
        """Where to listen."""
        return listening_on(address, variables)


@dataclass
class Nats:
    """The server's image."""

    entrypoint: list[str]

    def further_arguments(self, address: str, template: Json) -> list[str]:
        """Flags over the configuration file: the address for clients, monitoring and other servers."""
        ports = [each["containerPort"] for each in template.get("ports", [])]
        cluster = ["--cluster_listen", f"nats://{address}:{CLUSTER_PORT}"] if CLUSTER_PORT in ports else []
        return ["-a", address, *cluster]

    def rewritten(self, _address: str, _variables: Mapping[str, str]) -> dict[str, str]:
        """Nothing."""
        return {}


class Programs:
    """By image."""

    def __init__(self) -> None:
        folder = installed("moorgate").parent
        self._programs: dict[str, Program] = {
            "moorgate": Moorgate([str(folder / "moorgate")]),
            "nats": Nats([str(folder / "nats-server")]),
        }
        needed = {ROOT, Path(sys.prefix), Path(sys.base_prefix)}
        self.environment = {
            "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin",
            "HOME": "/",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.open_folders = sorted(str(each) for each in needed)
        machine = Path("/").stat().st_dev
        self.beside = sorted(str(each) for each in needed if each.stat().st_dev != machine)

    def of(self, image: str) -> Program:
        """The stand-in for an image. Raises `NotUnderstoodError`."""
        name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
        if name not in self._programs:
            raise NotUnderstoodError(f"no program stands for the image {image}")
        return self._programs[name]
