"""A NATS image where no registry can be reached: the wheel's nats-server on the base made here.

It stands in for `nats:2.15.1-alpine` in the test of docker-compose.yml, with the two programs that the file calls: the
server, and wget for its health check.
"""

import shutil
import tempfile
from pathlib import Path

from deploy.dev.docker import Docker
from deploy.dev.programs import installed

NAME = "moorgate-nats:local"

DOCKERFILE = """\
ARG BASE
FROM ${BASE}
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/*
COPY nats-server /usr/local/bin/
"""


def build_nats(docker: Docker, base: str) -> str:
    """The image's name. Raises DockerError."""
    folder = Path(tempfile.mkdtemp(prefix="moorgate-nats-image-"))
    try:
        shutil.copy2(installed("nats-server"), folder / "nats-server")
        (folder / "Dockerfile").write_text(DOCKERFILE)
        docker.run("build", "--tag", NAME, "--build-arg", f"BASE={base}", folder)
    finally:
        shutil.rmtree(folder)
    return NAME
