"""Finds, or builds once, the programs of the control plane: etcd, kube-apiserver, kube-controller-manager.

In this order: the folder KUBEBUILDER_ASSETS names, where all three lie in it; the user's cache; a build
with Go from the pinned modules in `controlplane/` (some minutes, once; the sums are checked by Go). A build is
written beside its place and renamed into it, under a lock, so that neither a killed build nor a second
test session can leave or see half a program. `python -m deploy.dev.binaries` does it all beforehand.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from deploy.dev.go import GoMissingError, go_command
from deploy.dev.processes import tethered

ETCD_VERSION = "3.6.16"
KUBERNETES_VERSION = "1.36.3"

_STAMP = "-X k8s.io/component-base/version."
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
KUBERNETES_STAMPS = (
    f"{_STAMP}gitVersion=v{KUBERNETES_VERSION} {_STAMP}gitMajor={_MAJOR} {_STAMP}gitMinor={_MINOR}"
)
"""Without them the API server calls itself v0.0.0 and clients warn of the skew."""


@dataclass(frozen=True)
class Binaries:
    """Where the programs are."""

    etcd: Path
    apiserver: Path
    controller_manager: Path


class BuildError(RuntimeError):
    """Go could not build a program; the text quotes what it said."""


@dataclass(frozen=True)
class Build:
    """How one program is built."""

    program: str
    release: str
    """Name of its folder in the cache: another version never meets an old build."""
    module: str
    """Folder below `controlplane/` with go.mod and go.sum."""
    package: str
    stamps: str = ""

    @property
    def target(self) -> Path:
        """Where the built program lies."""
        return cache_folder() / self.release / self.program


BUILDS = (
    Build("etcd", f"etcd-{ETCD_VERSION}", "etcd", "go.etcd.io/etcd/server/v3"),
    *(
        Build(
            name,
            f"kubernetes-{KUBERNETES_VERSION}",
            "kubernetes",
            f"k8s.io/kubernetes/cmd/{name}",
            KUBERNETES_STAMPS,
        )
        for name in ("kube-apiserver", "kube-controller-manager")
    ),
)


def cache_folder() -> Path:
    """The user's cache for programs and tools of the control plane."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "moorgate" / "controlplane"


def find() -> Binaries | None:
    """The programs, if all are there already; builds nothing."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    folders = [[Path(assets) / build.program for build in BUILDS]] if assets else []
    for paths in [*folders, [build.target for build in BUILDS]]:
        if all(os.access(path, os.X_OK) for path in paths):
            return Binaries(*paths)
    return None


def provide() -> Binaries:
    """The programs, built if need be; raises GoMissingError or BuildError."""
    found = find()
    if found is not None:
        return found
    console = Console(stderr=True, soft_wrap=True)
    with _lock("build", "the control plane", console):
        for build in BUILDS:
            if not build.target.exists():  # another process may have built it while we waited
                _build(build, console)
    return Binaries(*(build.target for build in BUILDS))


def provide_one(build: Build) -> Path:
    """One program from the cache, built if need be, whatever else is built meanwhile.

    Raises GoMissingError or BuildError.
    """
    if not build.target.exists():
        console = Console(stderr=True, soft_wrap=True)
        with _lock(build.release, build.program, console):
            if not build.target.exists():
                _build(build, console)
    return build.target


@contextmanager
def _lock(name: str, what: str, console: Console) -> Iterator[None]:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"Another process builds {what}; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(build: Build, console: Console) -> None:
    part = build.target.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    go = go_command(cache_folder(), console)
    argv: list[str | Path] = [
        go,
        "build",
        "-trimpath",
        "-ldflags",
        f"-s -w {build.stamps}".strip(),
        "-o",
        part,
        build.package,
    ]
    console.print(
        f"Building {build.program} ({build.release}) with {go}: some minutes, once …", soft_wrap=True
    )
    began = time.monotonic()
    with _elapsed(f"go build {build.package}", console):
        # go.mod is taken as it is, whatever the caller's environment says.
        done = subprocess.run(
            tethered(argv),  # a build that outlived its lock could meet the next one
            cwd=Path(__file__).parent / "controlplane" / build.module,
            env={**os.environ, "GOWORK": "off", "GOFLAGS": "-mod=readonly"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        part.unlink(missing_ok=True)
        raise BuildError(f"go build {build.package} failed:\n{done.stdout[-4000:]}")
    part.rename(build.target)
    console.print(f"  done in {time.monotonic() - began:.0f} s: {build.target}")


def _elapsed(what: str, console: Console) -> Progress:
    """A line with a running clock on a terminal; nothing in a log."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True)
    progress.add_task(what, total=None)
    return progress


def main() -> int:
    """Build what is missing and print where everything is; 1 with one line when that can't be."""
    try:
        binaries = provide()
    except (GoMissingError, BuildError) as error:
        print(error, file=sys.stderr)
        return 1
    print(binaries.etcd, binaries.apiserver, binaries.controller_manager, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
