"""Debian's Prometheus beside the stack: it scrapes the services, evaluates the shipped rules, answers queries.

The programs are taken from PATH, else from the user's cache, else from Debian's package, which is downloaded and
unpacked there, not installed: that needs no rights (only lists that are missing do), and starts no daemon. Where
none of this works `PrometheusMissingError` says why, and tests that need it are skipped with that line.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

from deploy.dev.binaries import cache_folder
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok

RULES = Path(__file__).parents[1] / "helm" / "moorgate" / "files" / "monitoring" / "rules.yaml"
"""The one copy of the alert rules."""

DOWNLOAD_WITHIN = 300.0
"""Seconds for the package and, where they are missing, Debian's lists of packages."""


class PrometheusMissingError(RuntimeError):
    """Neither on this machine nor to be had; the text says what to do."""


class BadQueryError(ValueError):
    """Prometheus does not understand the query."""


@dataclass(frozen=True)
class Programs:
    """Where they are."""

    prometheus: Path
    promtool: Path

    @classmethod
    def of(cls, folder: Path) -> "Programs | None":
        """Those of the folder, if both are there."""
        found = cls(folder / "prometheus", folder / "promtool")
        is_complete = all(os.access(each, os.X_OK) for each in (found.prometheus, found.promtool))
        return found if is_complete else None


def provide() -> Programs:
    """The programs, fetched if need be. Raises `PrometheusMissingError`."""
    on_path, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if on_path and promtool:
        return Programs(Path(on_path), Path(promtool))
    folder = cache_folder().parent / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "fetch.lock").open("w") as lock:  # other workers of the same session wait, and find it
        fcntl.flock(lock, fcntl.LOCK_EX)
        bin_folder = folder / "debian" / "usr" / "bin"
        found = Programs.of(bin_folder)
        if found is None:
            _fetch(folder)
            found = Programs.of(bin_folder)
    if found is None:
        raise PrometheusMissingError("Debian's package prometheus has no prometheus and promtool in it")
    return found


def _fetch(folder: Path) -> None:
    """Unpack Debian's package to `folder`/debian, whole or not at all."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise PrometheusMissingError(
            "prometheus and promtool are not on PATH: install them (no apt-get here)"
        )
    with tempfile.TemporaryDirectory(dir=folder) as made:
        work = Path(made)
        refusal = _run(["apt-get", "download", "prometheus"], work)
        if refusal and os.geteuid() == 0:  # without lists of packages nothing is known
            refusal = _run(["apt-get", "update"], work) or _run(["apt-get", "download", "prometheus"], work)
        if refusal:
            raise PrometheusMissingError(
                f"prometheus and promtool are not on PATH, and Debian's package is not to be had: {refusal}"
            )
        [package] = work.glob("prometheus_*.deb")
        if refusal := _run(["dpkg-deb", "-x", package, work / "debian"], work):
            raise PrometheusMissingError(f"Debian's package cannot be unpacked: {refusal}")
        shutil.rmtree(folder / "debian", ignore_errors=True)
        (work / "debian").rename(folder / "debian")


def _run(argv: list[str | Path], folder: Path) -> str:
    """Empty where it went well, else the last line of what it said."""
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, check=False, timeout=DOWNLOAD_WITHIN
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} took longer than {DOWNLOAD_WITHIN:.0f} s"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


@dataclass(kw_only=True)
class Prometheus:
    """One server over a few addresses, with the shipped rules."""

    folder: Path
    targets: Mapping[str, list[str]]
    """Addresses (host:port) by the name of the job."""
    interval: float = 1.0
    """Seconds between two scrapes."""
    port: int = field(default_factory=free_port)
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        self.process = Process(
            name="prometheus",
            argv=[
                provide().prometheus,
                f"--config.file={config}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            log=self.folder / "prometheus.log",
            ready=answers_ok(f"{self.url}/-/ready"),
        )

    @property
    def url(self) -> str:
        """Its own pages and API."""
        return f"http://127.0.0.1:{self.port}"

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query. Raises `BadQueryError`."""
        found = await self._get("query", query=expression)
        result: list[dict[str, Any]] = found["result"]
        return result

    async def rules(self) -> list[dict[str, Any]]:
        """The rules as it evaluates them."""
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def _get(self, path: str, **query: str) -> Any:
        async with (
            aiohttp.ClientSession(self.url) as session,
            session.get(f"/api/v1/{path}", params=query) as answer,
        ):
            body = await answer.json()
        if body["status"] != "success":
            raise BadQueryError(f"{query}: {body['error']}")
        return body["data"]

    def _config(self) -> dict[str, Any]:
        every = f"{round(1000 * self.interval)}ms"
        return {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": addresses}]}
                for job, addresses in self.targets.items()
            ],
        }

    async def __aenter__(self) -> Self:
        await self.process.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.process.stop()
