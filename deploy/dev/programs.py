"""Where the programs that come as wheels are: nats-server and kubectl.

They are development dependencies, so they lie beside the interpreter; a machine's own copy on PATH is
taken only where the environment has none.
"""

import shutil
import sys
from pathlib import Path


class ProgramMissingError(RuntimeError):
    """A program is neither in this Python environment nor on PATH."""


def installed(name: str) -> Path:
    """The path of the program, that of this environment first."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return beside
    on_path = shutil.which(name)
    if on_path is None:
        raise ProgramMissingError(f"{name} is not installed: run `uv sync` (it is a development dependency)")
    return Path(on_path)
