"""Known-verdict admission over TLS: the gateway beside its own server's limit, beside Go's, and beside another copy of itself.

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

from tests.bench import processes, webhook_load, webhooks
from tests.bench.figures import Figure, at_least, at_most, figure, ratios
from tests.bench.session import Rounds, Sample, Session, interleaved
from tests.bench.stage import Stage, stage
from tests.bench.webhooks import WebhookProcess
from tests.support.scanners import metrics

VERDICTS = 100_000
DRAIN = 120.0
"""Seconds in which the outbox must be empty after a run."""


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
        found = {
            name: webhooks.gateway(stand.folder, name, stand.nats.url, pair, more)
            for name, more in _gateways(stand.folder).items()
        }
        if session.against:
            more = _outbox(stand.folder / "outbox-other")
            root = session.against.resolve()
            found["other"] = webhooks.gateway(stand.folder, "other", stand.nats.url, pair, more, root=root)
        for each in found.values():
            await stack.enter_async_context(each)
        answer = await _answer(found["gateway"], pair.ca, stand.folder)
        for limit in (
            webhooks.limit(stand.folder, pair, answer),
            webhooks.limit(stand.folder, pair, answer, "application"),
            webhooks.echo(stand.folder, pair),
        ):
            found[limit.name] = await stack.enter_async_context(limit)
        yield stand, found


def _gateways(folder: Path) -> dict[str, Mapping[str, str]]:
    """By what their answers wait for: the outbox, NATS' acknowledgement, nothing."""
    return {
        "gateway": _outbox(folder / "outbox"),
        "gateway-ack": {**_outbox(folder / "outbox-ack"), "MOORGATE_DECISION_DURABILITY": "ack"},
        "gateway-memory": {},
    }


def _outbox(folder: Path) -> dict[str, str]:
    folder.mkdir()
    return {"MOORGATE_OUTBOX_DIR": str(folder)}


async def measure(session: Session, stand: Stage, side: WebhookProcess) -> Sample:
    """One run: requests a second until the last is answered and recorded, latencies in ms, CPU s per 1,000."""
    before, cpu = await stand.events(), processes.cpu_seconds(side.pid)
    nats = processes.cpu_seconds(stand.nats.process.pid)
    load = await webhook_load.put(side.url, webhook_load.template(stand.folder), session.seconds)
    answered = time.monotonic()
    sample: dict[str, float] = {}
    if side.metrics_port:
        await drained(side)
        sample["drain"] = time.monotonic() - answered
        sample["nats_cpu"] = (processes.cpu_seconds(stand.nats.process.pid) - nats) / load.requests * 1000
        recorded = await stand.events() - before
        if not load.requests <= recorded <= load.requests + webhook_load.CONNECTIONS:
            raise RuntimeError(f"{load.requests} requests answered, {recorded} decisions recorded")
    spent = processes.cpu_seconds(side.pid) - cpu
    rate = load.requests / (load.seconds + sample.get("drain", 0.0))
    return {"rate": rate, "p50": load.p50, "p99": load.p99, "cpu": spent / load.requests * 1000, **sample}


async def drained(side: WebhookProcess) -> None:
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
    limit = rate("limit")
    to_limit = ratios(rate("gateway"), limit)
    found = [
        figure("admission: gateway / limit", "ratio", to_limit, at_least(0.60)),
        figure("admission: gateway / limit, moonshot", "ratio", to_limit, at_least(0.75)),
        figure(
            "admission: waiting for the acknowledgement / limit",
            "ratio",
            ratios(rate("gateway-ack"), limit),
            at_least(0.55),
        ),
        figure("admission: p99 / limit's", "ratio", ratios(p99("gateway"), p99("limit")), at_most(2)),
        figure(
            "admission: gateway / Go echo", "ratio", ratios(rate("gateway"), rate("echo")), at_least(0.40)
        ),
        figure("admission: CPU per 1,000", "s", cpu("gateway"), at_most(0.30)),
        figure("admission: CPU / limit's", "ratio", ratios(cpu("gateway"), cpu("limit"))),
        figure("admission: NATS' CPU per 1,000", "s", rounds.of("gateway", "nats_cpu")),
        figure(
            "admission: gateway / limit as an application",
            "ratio",
            ratios(rate("gateway"), rate("limit-application")),
        ),
        figure(
            "admission: gateway / without an outbox",
            "ratio",
            ratios(rate("gateway"), rate("gateway-memory")),
        ),
    ]
    if "other" in rounds.samples:
        found += [
            figure("admission: gateway / the other copy's", "ratio", ratios(rate("gateway"), rate("other"))),
            figure("admission: CPU / the other copy's", "ratio", ratios(cpu("gateway"), cpu("other"))),
        ]
    for side in rounds.samples:
        found += [
            figure(f"admission: {side}, throughput", "1/s", rate(side)),
            figure(f"admission: {side}, p50", "ms", rounds.of(side, "p50")),
            figure(f"admission: {side}, p99", "ms", p99(side)),
            figure(f"admission: {side}, CPU per 1,000", "s", cpu(side)),
        ]
    return found
