"""The benches' small Go programs, built once into the user's cache: each is named by its source, so that none meets an old build."""

import hashlib
from pathlib import Path

from deploy.dev.binaries import Build, provide_one

_HERE = Path(__file__).parent


def echo() -> Path:
    """The webhook that does nothing. Raises `GoMissingError`, `BuildError`."""
    return _program("echo", _HERE / "echo")


def pods() -> Path:
    """The load on an API server. Raises `GoMissingError`, `BuildError`."""
    return _program("pods", _HERE / "load" / "pods")


def _program(name: str, folder: Path) -> Path:
    source = hashlib.sha256((folder / "main.go").read_bytes()).hexdigest()[:12]
    return provide_one(Build(name, f"bench-{name}-{source}", str(folder), "."))
