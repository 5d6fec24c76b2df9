"""Scanners as processes of their own, for what one process cannot show: load, kill -9, a machine that stands still."""

import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from deploy.dev.nats import NatsServer
from deploy.dev.ports import free_port
from deploy.dev.processes import Process, answers_ok
from deploy.dev.services import ROOT

CALLS = "moorgate_anchore_requests_total"


class ScannerProcess(Process):
    """`python -m services.scanner` for the tenants of a file."""

    def __init__(self, folder: Path, nats: NatsServer, tenants: Mapping[str, str], **settings: str) -> None:
        """`tenants`: the URL of each one's Anchore; `settings`: more, without their prefix."""
        self.port = free_port()
        name = f"scanner-{secrets.token_hex(3)}"
        file = folder / f"{name}.yaml"
        file.write_text("tenants:\n" + "".join(_entry(*each) for each in tenants.items()))
        super().__init__(
            name=name,
            argv=[sys.executable, "-m", "services.scanner"],
            log=folder / f"{name}.log",
            ready=answers_ok(f"http://127.0.0.1:{self.port}/readyz"),
            env={
                "MOORGATE_NATS_URL": nats.url,
                "MOORGATE_METRICS_LISTEN": f"127.0.0.1:{self.port}",
                "MOORGATE_TENANTS_FILE": str(file),
                **{f"MOORGATE_{name}": value for name, value in settings.items()},
            },
            cwd=ROOT,
        )

    async def calls(self) -> dict[str, float]:
        """To all Anchores, by operation."""
        found: dict[str, float] = {}
        for labels, value in (await metrics(self.port, CALLS)).items():
            operation = labels.split('operation="')[1].split('"')[0]
            found[operation] = found.get(operation, 0) + value
        return found


def _entry(name: str, url: str) -> str:
    return f"  {name}: {{url: '{url}', username: admin, password: foobar, api: v1}}\n"


async def metrics(port: int, name: str) -> dict[str, float]:
    """A metric's samples by their labels, as a service shows them."""
    url = f"http://127.0.0.1:{port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        text = await answer.text()
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def tell(figures: str) -> None:
    """For whoever runs a test to see figures: pytest -s."""
    print(figures)  # noqa: T201  see above
