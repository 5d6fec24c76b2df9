"""Load on a webhook from another process: wrk, with the one AdmissionReview that all webhook benches use."""

import asyncio
import json
import os
import secrets
import shutil
from pathlib import Path

import msgspec

CONNECTIONS = 16

_HERE = Path(__file__).parent / "load"
SAMPLE = _HERE / "admission.json"
"""A Pod of a Deployment with three images, as a real API server sent it."""


class WrkMissingError(RuntimeError):
    """There is no wrk here."""


class Load(msgspec.Struct, frozen=True):
    """What wrk saw; latencies in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int


def images() -> list[str]:
    """The images of the sample, as its Pod writes them."""
    spec = json.loads(SAMPLE.read_text())["request"]["object"]["spec"]
    return [each["image"] for kind in ("initContainers", "containers") for each in spec[kind]]


def template(folder: Path) -> Path:
    """The body with a place for the uid, compact as the API server sends it."""
    review = json.loads(SAMPLE.read_text())
    review["request"]["uid"] = "@UID@"
    path = folder / "admission.body"
    path.write_text(json.dumps(review, separators=(",", ":")))
    return path


async def put(url: str, body: Path, seconds: float, core: int | None = None) -> Load:
    """Post for so long, over 16 connections. Raises `WrkMissingError`, `RuntimeError` when an answer was no 200.

    `core`: the only one that the load may use.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise WrkMissingError("wrk is not installed: apt-get install wrk")
    process = await asyncio.create_subprocess_exec(
        *([] if core is None else ["taskset", "--cpu-list", str(core)]),
        wrk,
        "--threads=1",
        f"--connections={CONNECTIONS}",
        f"--duration={max(1, round(seconds))}s",
        "--latency",
        f"--script={_HERE / 'admission.lua'}",
        url,
        env={**os.environ, "ADMISSION_BODY": str(body), "ADMISSION_RUN": secrets.token_hex(8)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    lines = said.decode().strip().splitlines()
    if process.returncode or not lines or not lines[-1].startswith("{"):
        raise RuntimeError(f"wrk ended with {process.returncode}: {said.decode()[-500:]}")
    load = msgspec.json.decode(lines[-1], type=Load)
    if load.errors:
        raise RuntimeError(f"{load.errors} of {load.requests} requests were not answered with 200")
    return load
