"""`make images`: the product's image and the compose stack's, built with docker or podman.

    make images                                   moorgate:<version> and moorgate-dev:<version>
    make images BASE=registry.example/python:3.13   from a base of your own

Without BASE it is `python:3.13-slim`, and where that can't be had a Debian made here (images_base.py). What this machine
trusts (PIP_CERT, SSL_CERT_FILE, else its own bundle) is lent to the build and stays in no layer.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from deploy.dev.docker import Docker, DockerError, DockerMissingError, open_docker
from deploy.dev.images_base import provide_base
from deploy.dev.services import ROOT

VERSION = version("moorgate")

DEFAULT_BASE = "python:3.13-slim"

TARGETS = {"product": f"moorgate:{VERSION}", "dev": f"moorgate-dev:{VERSION}"}
"""Stages of deploy/Dockerfile and what they are tagged."""

CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE")

SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
"""What this machine trusts where no variable says otherwise, on Debian and its kin."""


def build(docker: Docker, base: str, root: Path = ROOT) -> Mapping[str, str]:
    """Build all; the images' names by stage. Raises DockerError."""
    for stage, name in TARGETS.items():
        docker.run(
            *("build", "--file", root / "deploy" / "Dockerfile", "--target", stage, "--tag", name),
            *("--build-arg", f"BASE={base}", "--build-arg", f"VERSION={VERSION}"),
            *("--build-arg", f"REVISION={_revision(root)}"),
            *_lent_ca(),
            root,
        )
    return TARGETS


def choose_base(docker: Docker) -> str:
    """The default where the daemon has it or can pull it, else the one made here. Raises as that does."""
    if docker.has_image(DEFAULT_BASE):
        return DEFAULT_BASE
    try:
        docker.run("pull", "--quiet", DEFAULT_BASE)
    except DockerError as error:
        print(f"{DEFAULT_BASE} cannot be pulled ({str(error).splitlines()[-1]})", flush=True)
        return provide_base(docker)
    return DEFAULT_BASE


def _lent_ca() -> list[str]:
    named = [os.environ[name] for name in CA_VARIABLES if os.environ.get(name)]
    for path in (*named, SYSTEM_CA):
        if Path(path).is_file():
            return ["--secret", f"id=ca,src={path}"]
    return []


def _revision(root: Path) -> str:
    git = ["git", "-C", str(root), "rev-parse", "HEAD"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


async def _run() -> None:
    folder = Path(tempfile.mkdtemp(prefix="moorgate-images-"))
    try:
        async with open_docker(folder) as docker:
            _build_and_tell(docker)
    except DockerMissingError as error:
        podman = shutil.which("podman")
        if podman is None:
            raise DockerMissingError(f"{error}; podman is not installed either") from error
        _build_and_tell(Docker(program=podman))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build_and_tell(docker: Docker) -> None:
    base = os.environ.get("BASE") or choose_base(docker)
    for name in build(docker, base).values():
        size = int(docker.run("image", "inspect", "--format", "{{.Size}}", name))
        print(f"{name}  {size / 1e6:.0f} MB  from {base}")
    if "DOCKER_HOST" in docker.environment:
        print(
            "They are in a docker of the project's own, in your cache folder: no daemon of this machine answered."
        )


def main() -> int:
    """The exit code."""
    try:
        asyncio.run(_run())
    except (DockerMissingError, DockerError) as error:
        print(f"make images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
