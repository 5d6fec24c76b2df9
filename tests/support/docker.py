"""How the tests reach a docker: the machine's own, or a daemon for as long as a test lasts.

Where none can be had the test is skipped, and says why. Images are built from this tree, from the base that is to be had.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.dev import images
from deploy.dev.docker import Docker, DockerError, DockerMissingError, open_docker

WITHIN = 1200
"""Seconds for a whole test: without any cache a base is made and everything downloaded, on a busy machine, and
another session's docker may have to be waited for."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A docker that holds our images."""

    docker: Docker
    base: str
    names: Mapping[str, str]
    """By stage of the Dockerfile: `product`, `dev`."""


@asynccontextmanager
async def built_images(folder: Path) -> AsyncIterator[Built]:
    """Images of this tree, in a docker that ends with the context."""
    try:
        async with open_docker(folder) as docker:
            base = await _base(docker)
            names = await asyncio.to_thread(images.build, docker, base)
            yield Built(docker=docker, base=base, names=names)
    except DockerMissingError as error:
        pytest.skip(f"NO IMAGE IS BUILT OR RUN HERE: {error}")


async def _base(docker: Docker) -> str:
    """What our images are built on. That none is to be had says nothing about them."""
    try:
        return await asyncio.to_thread(images.choose_base, docker)
    except DockerError as error:
        raise DockerMissingError(f"no base image can be pulled or made: {error}") from error
