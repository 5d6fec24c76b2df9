"""A docker to build and run images with: the machine's own, or a daemon that lives as long as it is needed.

In this order: the daemon that the command line reaches anyway; where there is none, and we are root, a `dockerd` of
our own, whose images stay in the user's cache (one such daemon at a time: a second session waits for the first). The
packages for it are installed from Debian where they are missing. Where none of that is possible, the error says why.
"""

import asyncio
import fcntl
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from deploy.dev.binaries import cache_folder
from deploy.dev.processes import Probe, Process

PACKAGES = ("docker.io", "docker-compose", "debootstrap")
"""Debian's names of what is used here."""

NETWORKS = ("--bip", "172.30.255.1/24", "--default-address-pool", "base=172.30.0.0/17,size=24")
"""Not docker's own defaults: these may be the network that this machine, perhaps a container itself, lives in."""

READY_WITHIN = 120.0
LOCK_INTERVAL = 0.5
ASK_TIMEOUT = 20
COMMAND_TIMEOUT = 900
"""Seconds; building everything on a busy machine takes some minutes."""

CACHE_LIMIT = "3gb"
"""What layers kept for the next build may take in a daemon of our own."""

CLIENTS = ("docker", "/usr/bin/docker")
"""Where a command line is looked for; the first that builds with BuildKit is taken."""

COMPOSES = (("docker", "compose"), ("docker-compose",))

BUILDKIT_BUILT_IN_BEFORE = 23
"""From this major version on the docker command line needs its plugin buildx to build with BuildKit."""


class DockerMissingError(RuntimeError):
    """There is no docker, and none can be started; the text says why."""


class DockerError(RuntimeError):
    """A docker command failed; the text quotes what it said."""


@dataclass(frozen=True, kw_only=True)
class Docker:
    """A command line and the daemon it speaks to."""

    program: str
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own: where the daemon is, and that BuildKit builds."""

    def run(self, *words: str | Path, stdin: IO[bytes] | None = None) -> str:
        """Run `docker WORDS`; what it printed. Raises DockerError."""
        return self.command(self.program, *words, stdin=stdin)

    def command(self, *argv: str | Path, stdin: IO[bytes] | None = None) -> str:
        """Run any program that speaks to this daemon (compose); what it printed. Raises DockerError."""
        done = subprocess.run(
            argv,
            stdin=stdin or subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT,
            env={**os.environ, **self.environment},
        )
        if done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-60:])
            raise DockerError(f"{' '.join(map(str, argv))} ended with {done.returncode}\n{said}")
        return done.stdout

    def has_image(self, name: str) -> bool:
        """Whether the daemon holds the image."""
        return bool(self.run("image", "ls", "--quiet", name).strip())


def find_client() -> str:
    """A docker command line that builds with BuildKit. Raises DockerMissingError."""
    found = [path for client in CLIENTS if (path := shutil.which(client))]
    for path in found:
        if _builds_with_buildkit(path):
            return path
    if not found:
        raise DockerMissingError("docker is not installed")
    raise DockerMissingError(f"{found[0]} cannot build with BuildKit: install its plugin buildx")


def find_compose() -> tuple[str, ...]:
    """`docker compose`, else `docker-compose`. Raises DockerMissingError."""
    for words in COMPOSES:
        if shutil.which(words[0]) and _succeeds(*words, "version"):
            return words
    raise DockerMissingError("neither `docker compose` nor `docker-compose` is installed")


@asynccontextmanager
async def open_docker(folder: Path) -> AsyncIterator[Docker]:
    """A docker that answers; a daemon of our own ends with the context, its log is in `folder`."""
    _install_missing()
    client = find_client()
    docker = Docker(program=client, environment={"DOCKER_BUILDKIT": "1"})
    if _succeeds(client, "info"):
        yield docker
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        raise DockerMissingError("no docker daemon answers, and only root with dockerd could start one")
    home = cache_folder().parent / "docker"
    async with _lock(home), _daemon(client, home, folder) as socket:
        own = Docker(program=client, environment={**docker.environment, "DOCKER_HOST": socket})
        await asyncio.to_thread(_tidy, own)
        yield own


def _tidy(docker: Docker) -> None:
    """Nobody else uses a daemon of our own: what a killed session left goes, and the cache stays bounded."""
    left = docker.run("ps", "--all", "--quiet").split()
    if left:
        docker.run("rm", "--force", "--volumes", *left)
    for kind in ("network", "volume", "image"):
        docker.run(kind, "prune", "--force")
    docker.run("builder", "prune", "--force", "--keep-storage", CACHE_LIMIT)


@asynccontextmanager
async def _lock(home: Path) -> AsyncIterator[None]:
    """Two daemons on one folder would destroy it, and on one bridge each other's networks."""
    with _lock_file(home) as lock:
        while not _is_locked(lock):
            await asyncio.sleep(LOCK_INTERVAL)
        yield


def _lock_file(home: Path) -> IO[str]:
    (home / "run").mkdir(parents=True, exist_ok=True)
    return (home / "lock").open("w")


def _is_locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def _daemon(client: str, home: Path, folder: Path) -> AsyncIterator[str]:
    """The lock is ours: a process id that lies there is of a daemon that was killed."""
    socket, run = f"unix://{home}/run/docker.sock", home / "run"
    _remove_stale(run / "docker.pid")
    process = Process(
        name="dockerd",
        argv=[
            *("dockerd", "--data-root", home / "data", "--exec-root", run / "exec"),
            *("--pidfile", run / "docker.pid", "--host", socket, *NETWORKS),
        ],
        log=folder / "dockerd.log",
        ready=_answers(client, socket),
        ready_within=READY_WITHIN,
        stop_within=60,
    )
    had_bridge = _has_bridge()
    try:
        async with process:
            yield socket
    finally:
        await asyncio.to_thread(_remove_traces, run, had_bridge=had_bridge)


def _remove_stale(pid_file: Path) -> None:
    pid_file.unlink(missing_ok=True)


def _has_bridge() -> bool:
    return Path("/sys/class/net/docker0").exists()


def _remove_traces(run: Path, *, had_bridge: bool) -> None:
    """The daemon leaves a mounted network namespace behind, and its bridge with an address."""
    namespace = run / "exec" / "netns" / "default"
    if namespace.exists():
        subprocess.run(["umount", namespace], check=False, capture_output=True)
    if not had_bridge and _has_bridge() and shutil.which("ip"):
        subprocess.run(["ip", "link", "delete", "docker0"], check=False, capture_output=True)


def _answers(client: str, socket: str) -> Probe:
    async def probe() -> bool:
        return await asyncio.to_thread(_succeeds, client, "--host", socket, "info")

    return probe


def _install_missing() -> None:
    """On a machine where that is ours to do; elsewhere the error that follows says what is missing."""
    if shutil.which("dockerd") or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    if any(shutil.which(client) and _succeeds(client, "info") for client in CLIENTS):
        return
    print(f"Installing {', '.join(PACKAGES)} with apt-get …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (("update", "-qq"), ("install", "-qq", "--yes", "--no-install-recommends", *PACKAGES)):
        subprocess.run(["apt-get", *words], env=environment, check=False, capture_output=True)


def _builds_with_buildkit(client: str) -> bool:
    if _succeeds(client, "buildx", "version"):
        return True
    said = subprocess.run([client, "--version"], capture_output=True, text=True, check=False).stdout
    major = said.removeprefix("Docker version ").split(".")[0]
    return major.isdigit() and int(major) < BUILDKIT_BUILT_IN_BEFORE


def _succeeds(*argv: str) -> bool:
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=ASK_TIMEOUT)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
