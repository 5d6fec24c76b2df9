"""Known-verdict admission over TLS: the gateway beside its own server's limit and beside Go's.

One Pod with three known images, 100,000 verdicts in the mirror, 16 connections. A run of the gateway ends when
every decision is in its stream: what the load left in the outbox counts as time and as CPU.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp

from shared import settings
from tests.bench import processes, webhook_load, webhooks
from tests.bench.figures import Figure, at_least, at_most, figure, ratios
from tests.bench.session import Rounds, Sample, Session, interleaved
from tests.bench.stage import Stage, stage
from tests.bench.webhooks import WebhookProcess
from tests.support.scanners import metrics

VERDICTS = 100_000
DRAIN = 120.0
"""Seconds in which the outbox must be empty after a run."""

OUTBOX, ACK = "MOORGATE_OUTBOX_DIR", "MOORGATE_DECISION_DURABILITY"


async def run(session: Session) -> Sequence[Figure]:
    """The gateway's figures."""
    async with sides(session, session.size(VERDICTS)) as (stand, found):
        measures = {name: partial(measure, session, stand, side) for name, side in found.items()}
        for each in measures.values():
            await each()  # unmeasured: caches fill, connections settle
        return _figures(await interleaved(session, measures))


@asynccontextmanager
async def sides(session: Session, verdicts: int) -> AsyncIterator[tuple[Stage, dict[str, WebhookProcess]]]:
    """Every webhook to compare, running."""
    async with stage(session, "admission", verdicts) as stand, AsyncExitStack() as stack:
        pair = webhooks.certificate(stand.folder)
        found: dict[str, WebhookProcess] = {}
        for name, more in gateways(stand.folder).items():
            found[name] = webhooks.gateway(stand.folder, name, stand.nats.url, pair, more)
            await stack.enter_async_context(found[name])
        answer = await _answer(found["gateway"], pair.ca, stand.folder)
        for limit in (webhooks.limit(stand.folder, pair, answer), webhooks.echo(stand.folder, pair)):
            found[limit.name] = await stack.enter_async_context(limit)
        yield stand, found


def gateways(folder: Path) -> dict[str, Mapping[str, str]]:
    """By outbox, and where the gateway can, waiting for the acknowledgement."""
    found: dict[str, Mapping[str, str]] = {"gateway": {}}
    if OUTBOX not in settings.NOT_YET:
        found["gateway"] = {OUTBOX: str(folder / "outbox")}
    if ACK not in settings.NOT_YET:
        found["gateway-ack"] = {OUTBOX: str(folder / "outbox-ack"), ACK: "ack"}
    for more in found.values():
        if OUTBOX in more:
            Path(more[OUTBOX]).mkdir(parents=True, exist_ok=True)
    return found


async def measure(session: Session, stand: Stage, side: WebhookProcess) -> Sample:
    """One run: requests a second until the last is answered and recorded, latencies in ms, CPU s per 1,000."""
    before, cpu = await stand.events(), processes.cpu_seconds(side.pid)
    nats = processes.cpu_seconds(stand.nats.process.pid)
    load = await webhook_load.put(side.url, webhook_load.template(stand.folder), session.seconds)
    answered = time.monotonic()
    sample: dict[str, float] = {}
    if side.metrics_port:
        await _drained(side)
        sample["drain"] = time.monotonic() - answered
        sample["nats_cpu"] = (processes.cpu_seconds(stand.nats.process.pid) - nats) / load.requests * 1000
        recorded = await stand.events() - before
        if not load.requests <= recorded <= load.requests + webhook_load.CONNECTIONS:
            raise RuntimeError(f"{load.requests} requests answered, {recorded} decisions recorded")
    spent = processes.cpu_seconds(side.pid) - cpu
    rate = load.requests / (load.seconds + sample.get("drain", 0.0))
    return {"rate": rate, "p50": load.p50, "p99": load.p99, "cpu": spent / load.requests * 1000, **sample}


async def _drained(side: WebhookProcess) -> None:
    """Wait until the outbox is empty."""
    async with asyncio.timeout(DRAIN):
        while (await metrics(side.metrics_port, "moorgate_outbox_entries")).get("", 0):
            await asyncio.sleep(0.02)


async def _answer(side: WebhookProcess, ca: Path, folder: Path) -> Path:
    """What the gateway says, as a file: the limit answers the same bytes."""
    body = webhook_load.template(folder).read_bytes().replace(b"@UID@", b"the-first")
    tls = ssl.create_default_context(cafile=str(ca))
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(side.url, data=body, headers=headers, ssl=tls) as answer,
    ):
        said = await answer.read()
    if b'"allowed":true' not in said or b"source" not in said or b"memory" not in said:
        raise RuntimeError(f"not let in from memory: {said.decode()}")
    path = folder / "answer.json"
    path.write_bytes(said)
    return path


def _figures(rounds: Rounds) -> list[Figure]:
    rate, cpu, p99 = (partial(rounds.of, name=name) for name in ("rate", "cpu", "p99"))
    found = [
        figure("admission: gateway / limit", "ratio", ratios(rate("gateway"), rate("limit")), at_least(0.60)),
        figure("admission: p99 / limit's", "ratio", ratios(p99("gateway"), p99("limit")), at_most(2)),
        figure(
            "admission: gateway / Go echo", "ratio", ratios(rate("gateway"), rate("echo")), at_least(0.40)
        ),
        figure("admission: CPU per 1,000", "s", cpu("gateway"), at_most(0.30)),
        figure("admission: CPU / limit's", "ratio", ratios(cpu("gateway"), cpu("limit"))),
    ]
    if "gateway-ack" in rounds.samples:
        ack = ratios(rate("gateway-ack"), rate("limit"))
        found.append(
            figure("admission: waiting for the acknowledgement / limit", "ratio", ack, at_least(0.55))
        )
    for side in rounds.samples:
        found += [
            figure(f"admission: {side}, throughput", "1/s", rate(side)),
            figure(f"admission: {side}, p50", "ms", rounds.of(side, "p50")),
            figure(f"admission: {side}, p99", "ms", p99(side)),
            figure(f"admission: {side}, CPU per 1,000", "s", cpu(side)),
        ]
    return found
