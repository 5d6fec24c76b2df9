"""Two networks on the loopback interface: one for Pods, one for Services.

Not 127/8, which the API server takes for no endpoint. They expire by themselves, so that even kill -9 leaves
nothing behind for long.
"""

import os
import random
import shutil
import subprocess
from dataclasses import dataclass

SECONDS = 3600
"""After which the kernel takes the addresses away again: longer than any run."""

ATTEMPTS = 20


class NoNetworkError(RuntimeError):
    """The addresses could not be had."""


@dataclass(frozen=True)
class Networks:
    """254 addresses each."""

    pods: str
    services: str

    def remove(self) -> None:
        """Give them back."""
        for network in (self.pods, self.services):
            _ip("del", network)


def is_allowed() -> bool:
    """Whether this user may add addresses and mount, and has the command for the first."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


def take() -> Networks:
    """Two networks that nobody uses here. Raises `NoNetworkError`."""
    said = ""
    for _ in range(ATTEMPTS):
        prefix = f"10.{random.randint(192, 247)}.{random.randrange(0, 256, 2)}"  # noqa: S311  no secret
        second = f"{prefix.rpartition('.')[0]}.{int(prefix.rpartition('.')[2]) + 1}"
        networks = Networks(f"{prefix}.0/24", f"{second}.0/24")
        said = _ip("add", networks.pods) or _ip("add", networks.services)
        if not said:
            return networks
        networks.remove()
    raise NoNetworkError(f"no addresses on the loopback interface: {said}")


def _ip(command: str, network: str) -> str:
    """What `ip` complained of; with an address of a network on `lo` the whole network is this machine's."""
    life = ["valid_lft", str(SECONDS), "preferred_lft", str(SECONDS)] if command == "add" else []
    first = network.replace(".0/", ".254/")
    done = subprocess.run(
        ["ip", "address", command, first, "dev", "lo", *life], capture_output=True, text=True, check=False
    )
    return done.stderr.strip() if done.returncode else ""
