"""A gateway as a process of its own beside a NATS: no cluster, no scanner, one verdict that is known.

What an admission costs and what becomes of its record need no more. Pods are posted as the API server posts
them, over TLS and on connections that stay open.
"""

import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import trustme

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.services import ROOT
from shared import streams
from shared.contracts import Result
from shared.subjects import verdict_key
from shared.verdict_store import VerdictBuckets
from tests.support.builders import BUNDLE, normal, pod, review, tenant_record, verdict
from tests.support.nats import broker_on

GOOD, BAD = "nginx:1.25", "registry.example/bad/shop:1"


class LoneGateway:
    """The process, and how to ask it."""

    def __init__(
        self, folder: Path, nats: NatsServer, *program: str, root: Path = ROOT, **settings: str
    ) -> None:
        """`program`: instead of the service's own; `settings`: without the prefix, in capitals."""
        self.folder = folder
        self.nats = nats
        self.webhook, self.probes = free_port(), free_port()
        authority = trustme.CA()
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "tls.pem")
        self.tls = ssl.create_default_context()
        authority.configure_trust(self.tls)
        self.log = folder / "gateway.log"
        self.output = folder / "gateway.out"
        line = " ".join(f'"{each}"' for each in (sys.executable, *(program or ("-m", "services.gateway"))))
        self.process = Process(
            name="gateway",
            argv=["sh", "-c", f'exec {line} >> "{self.output}"'],  # its stdout apart from its log
            log=self.log,
            ready=answers_ok(f"http://127.0.0.1:{self.probes}/readyz"),
            ready_within=60,
            stop_within=30,
            cwd=root,
            env={
                "HOME": str(folder),
                "KUBECONFIG": "",
                "MOORGATE_CLUSTER": "none",
                "MOORGATE_NATS_URL": nats.url,
                "MOORGATE_LISTEN": f"127.0.0.1:{self.webhook}",
                "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{self.probes}",
                "MOORGATE_TLS_CERT_FILE": str(folder / "tls.pem"),
                "MOORGATE_TLS_KEY_FILE": str(folder / "tls.pem"),
                "MOORGATE_ALLOW_ANY_CALLER": "true",
                **{f"MOORGATE_{name}": value for name, value in settings.items()},
            },
        )

    def url(self, timeout: str = "10s") -> str:
        """Where the API server would post."""
        return f"https://127.0.0.1:{self.webhook}/imagecheck?timeout={timeout}"

    @asynccontextmanager
    async def caller(self, connections: int = 16) -> AsyncIterator[aiohttp.ClientSession]:
        """A client that keeps its connections."""
        connector = aiohttp.TCPConnector(limit=connections, ssl=self.tls)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session

    async def ask(
        self,
        session: aiohttp.ClientSession,
        uid: str,
        image: str = GOOD,
        within: str = "10s",
        **request: Any,
    ) -> dict[str, Any]:
        """What it answers to a new Pod; the record's id is `uid`."""
        body = review(pod(image, name=uid), uid=uid, **request)
        async with session.post(self.url(within), json=body) as answer:
            assert answer.status == 200, await answer.text()
            response: dict[str, Any] = (await answer.json())["response"]
            return response

    async def metric(self, sample: str) -> float:
        """A sample of its metrics; 0 while it isn't there."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.probes}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} ")), 0.0)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines of one kind."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [each for each in found if each.get("event") == name]


async def make_known(nats: NatsServer, *verdicts: tuple[str, Result]) -> None:
    """Streams, buckets, the tenant's record and these verdicts, as bootstrap and scanners would make them."""
    now = datetime.now(UTC)
    async with broker_on(nats) as broker:
        await streams.apply(broker, 1)
        buckets = VerdictBuckets(broker)
        await buckets.put_tenant(tenant_record(), 3600)
        for image, result in verdicts:
            key = verdict_key("default", BUNDLE, normal(image))
            await buckets.put_verdict(key, verdict(result, since=now, image=normal(image)), now, 0)
