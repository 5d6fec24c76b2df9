"""The webhooks that are compared: the gateway, its server with a fixed answer, and Go's that echoes the uid."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme

from deploy.dev.ports import free_port
from deploy.dev.processes import Probe, Process, answers_ok
from deploy.dev.services import ROOT
from tests.bench import go_programs

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
    folder: Path,
    name: str,
    nats_url: str,
    pair: Certificate,
    settings: Mapping[str, str] | None = None,
    *,
    root: Path = ROOT,
) -> WebhookProcess:
    """The gateway beside no cluster, as it runs in its container. `root`: of the working copy it comes from."""
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
        cwd=root,
    )
    process.url = f"https://127.0.0.1:{port}/imagecheck/{PATH_SECRET}"
    process.metrics_port = metrics_port
    return process


def limit(folder: Path, pair: Certificate, answer: Path, *kind: str) -> WebhookProcess:
    """The gateway's own server, or a web `application`, that reads the body and answers what the file says."""
    port, name = free_port(), "-".join(("limit", *kind))
    process = WebhookProcess(
        name=name,
        argv=[
            sys.executable,
            "-m",
            "tests.bench.limit_server",
            str(port),
            pair.certificate,
            pair.key,
            answer,
            *kind,
        ],
        log=folder / f"{name}.log",
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
        argv=[go_programs.echo(), f"127.0.0.1:{port}", pair.certificate, pair.key],
        log=folder / "echo.log",
        ready=_listening(port),
    )
    process.url = f"https://127.0.0.1:{port}/"
    return process


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
