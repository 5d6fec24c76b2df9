"""A base image where no registry can be reached: Debian with its own Python, made by debootstrap.

It stands in for `python:3.13-slim` (Debian 13 with the same Python) in tests and in `make images`. It is made once and
stays in docker's store. What no container reads is left out: documentation, languages, package lists.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from deploy.dev.docker import Docker, DockerError, DockerMissingError

NAME = "moorgate-base:trixie"
PACKAGES = "ca-certificates,python3,python3-venv"
MIRROR = "http://deb.debian.org/debian"

LEFT_OUT = (
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./dev/*",
    "./proc/*",
    "./sys/*",
)


def provide_base(docker: Docker) -> str:
    """The name of the image, made if need be. Raises DockerMissingError, DockerError."""
    if docker.has_image(NAME):
        return NAME
    program = shutil.which("debootstrap")
    if program is None:
        raise DockerMissingError("debootstrap is not installed, and no base image can be pulled")
    print(f"Making {NAME} with debootstrap: a minute, once …", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="moorgate-base-"))
    try:
        _fill(program, folder / "root")
        _import(docker, folder / "root")
    finally:
        # A killed debootstrap leaves them behind, and nothing may be removed through them.
        for mounted in ("proc", "sys"):
            subprocess.run(["umount", folder / "root" / mounted], check=False, capture_output=True)
        if not any((folder / "root" / mounted).is_mount() for mounted in ("proc", "sys")):
            shutil.rmtree(folder, ignore_errors=True)
    return NAME


def _fill(program: str, root: Path) -> None:
    done = subprocess.run(
        [program, "--variant=minbase", f"--include={PACKAGES}", "trixie", root, MIRROR],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DockerError(
            f"debootstrap ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-500:]}"
        )


def _import(docker: Docker, root: Path) -> None:
    """Through a pipe: the archive is nowhere on disk."""
    excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    with subprocess.Popen(["tar", "-C", root, *excluded, "-c", "."], stdout=subprocess.PIPE) as tar:
        docker.run("import", "--change", 'CMD ["/bin/bash"]', "-", NAME, stdin=tar.stdout)
    if tar.returncode != 0:
        docker.run("image", "rm", NAME)
        raise DockerError(f"tar ended with {tar.returncode}")
