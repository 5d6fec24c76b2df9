"""The three webhooks that are compared: the gateway, the same server with a fixed answer, and Go's that echoes the uid."""

import asyncio
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme

from deploy.dev.binaries import Build, provide_one
from deploy.dev.ports import free_port
from deploy.dev.processes import Probe, Process, answers_ok
from deploy.dev.services import ROOT

_ECHO = Path(__file__).parent / "echo"
PATH_SECRET = "bench-path-secret"


@dataclass(kw_only=True)
class Certificate:
    """A certificate for 127.0.0.1, its key and its CA, as files."""

    certificate: Path
    key: Path
    ca: Path


def certificate(folder: Path) -> Certificate:
    """A new one."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    made = Certificate(certificate=folder / "tls.pem", key=folder / "tls.key", ca=folder / "ca.pem")
    made.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(made.key)
    authority.cert_pem.write_to_path(made.ca)
    return made


class WebhookProcess(Process):
    """One of them."""

    url: str
    """Where reviews are posted to."""
    metrics_port: int = 0
    """Of a gateway."""


def gateway(
    folder: Path, name: str, nats_url: str, pair: Certificate, settings: Mapping[str, str] | None = None
) -> WebhookProcess:
    """The gateway beside no cluster, as it runs in its container."""
    port, metrics_port = free_port(), free_port()
    process = WebhookProcess(
        name=name,
        argv=[sys.executable, "-m", "services.gateway"],
        log=folder / f"{name}.log",
        ready=answers_ok(f"http://127.0.0.1:{metrics_port}/readyz"),
        ready_within=60,
        stop_within=30,
        env={
            "MOORGATE_CLUSTER": "none",
            "MOORGATE_NATS_URL": nats_url,
            "MOORGATE_LISTEN": f"127.0.0.1:{port}",
            "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{metrics_port}",
            "MOORGATE_TLS_CERT_FILE": str(pair.certificate),
            "MOORGATE_TLS_KEY_FILE": str(pair.key),
            "MOORGATE_PATH_SECRET": PATH_SECRET,
            **(settings or {}),
        },
        cwd=ROOT,
    )
    process.url = f"https://127.0.0.1:{port}/imagecheck/{PATH_SECRET}"
    process.metrics_port = metrics_port
    return process


def limit(folder: Path, pair: Certificate, answer: Path) -> WebhookProcess:
    """The gateway's own server (aiohttp, uvloop, TLS) that reads the body and answers what the file says."""
    port = free_port()
    process = WebhookProcess(
        name="limit",
        argv=[
            sys.executable,
            "-m",
            "tests.bench.limit_server",
            str(port),
            pair.certificate,
            pair.key,
            answer,
        ],
        log=folder / "limit.log",
        ready=_listening(port),
        cwd=ROOT,
    )
    process.url = f"https://127.0.0.1:{port}/imagecheck/{PATH_SECRET}"
    return process


def echo(folder: Path, pair: Certificate) -> WebhookProcess:
    """Go's net/http that repeats the uid. Raises `GoMissingError`, `BuildError`."""
    port = free_port()
    process = WebhookProcess(
        name="echo",
        argv=[provide_one(_echo_build()), f"127.0.0.1:{port}", pair.certificate, pair.key],
        log=folder / "echo.log",
        ready=_listening(port),
    )
    process.url = f"https://127.0.0.1:{port}/"
    return process


def _echo_build() -> Build:
    """Named by its source: another one never meets an old build."""
    source = hashlib.sha256((_ECHO / "main.go").read_bytes()).hexdigest()[:12]
    return Build("echo", f"echo-{source}", str(_ECHO), ".")


def _listening(port: int) -> Probe:
    """A probe: somebody accepts connections there."""

    async def probe() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return probe
