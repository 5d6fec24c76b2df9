"""More of everything: two gateways on two cores, and one to four scanners on one queue.

Where load, NATS and gateways share two cores, the second gateway has no core of its own, and throughput says nothing. So
each gateway is pinned to a core together with its own load: once one core with one gateway, once two cores with one
each. NATS, which both need, runs on the one core in the first case and on both in the second. What doubles is then the
machine, and what is looked at is whether the work done doubles with it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from deploy.dev.anchore.latency import EVEN_CALLS, EVEN_SECONDS
from tests.bench import admission, processes, scans, webhook_load, webhooks
from tests.bench.figures import Figure, at_least, figure, ratios
from tests.bench.scans import CONCURRENCY, Scene
from tests.bench.session import Rounds, Sample, Session, interleaved
from tests.bench.stage import Stage, stage
from tests.bench.webhooks import WebhookProcess
from tests.support.scanners import ScannerProcess

GATEWAYS, SCANNERS = 2, 4

VERDICTS = 10_000

LINEAR = 0.85
"""Of the arithmetic sum: what counts as near-linear."""

LATENCY = 0.1
"""Seconds of a call to Anchore: so long that waiting bounds the scanners, and not the two cores."""

ALONE = CONCURRENCY / (LATENCY + EVEN_SECONDS)
"""Verdicts a second of one scanner, if only Anchore took time."""

ANCHORE = EVEN_CALLS / EVEN_SECONDS
"""Checks a second that Anchore takes, however many are at once."""

_SECONDS = 4
"""Of arithmetic work in one run of the scanners."""


async def run(session: Session) -> Sequence[Figure]:
    """Gateways, then scanners."""
    return [*await _gateways(session), *await _scanners(session)]


async def _gateways(session: Session) -> list[Figure]:
    cores = processes.cores()[:GATEWAYS]
    if len(cores) < GATEWAYS:
        session.log("cores: gateways left out, there is only one core")
        return []
    async with _pair(session) as (stand, pair):
        measures = {
            "one": partial(_measure, session, stand, pair[:1], cores[:1]),
            "two": partial(_measure, session, stand, pair, cores),
        }
        for each in measures.values():
            await each()
        rounds = await interleaved(session, measures)
    return _gateway_figures(rounds)


def _gateway_figures(rounds: Rounds) -> list[Figure]:
    one, two = rounds.of("one", "rate"), rounds.of("two", "rate")
    bound = at_least(GATEWAYS * LINEAR)
    cpu = ratios(rounds.of("two", "cpu"), rounds.of("one", "cpu"))
    return [
        figure("cores: two gateways on two cores / one on one", "ratio", ratios(two, one), bound),
        figure("cores: CPU of an admission, two gateways / one", "ratio", cpu),
        figure("cores: one gateway with its load on one core", "1/s", one),
        figure("cores: two gateways with their loads on two cores", "1/s", two),
    ]


@asynccontextmanager
async def _pair(session: Session) -> AsyncIterator[tuple[Stage, list[WebhookProcess]]]:
    async with stage(session, "cores", session.size(VERDICTS)) as stand, AsyncExitStack() as stack:
        certificate = webhooks.certificate(stand.folder)
        found = []
        for number in range(GATEWAYS):
            folder = stand.folder / f"outbox-{number}"
            folder.mkdir()
            settings = {"MOORGATE_OUTBOX_DIR": str(folder)}
            name = f"gateway-{number}"
            gateway = webhooks.gateway(stand.folder, name, stand.nats.url, certificate, settings)
            found.append(await stack.enter_async_context(gateway))
        yield stand, found


async def _measure(
    session: Session, stand: Stage, gateways: Sequence[WebhookProcess], cores: Sequence[int]
) -> Sample:
    """All at once, each on its core with its load."""
    processes.pin(stand.nats.process.pid, cores)
    for gateway, core in zip(gateways, cores, strict=True):
        processes.pin(gateway.pid, [core])
    cpu = sum(processes.cpu_seconds(each.pid) for each in gateways)
    body = webhook_load.template(stand.folder)
    pairs = zip(gateways, cores, strict=True)
    loads = await asyncio.gather(
        *(webhook_load.put(each.url, body, session.seconds, core) for each, core in pairs)
    )
    for each in gateways:
        await admission.drained(each)
    spent = sum(processes.cpu_seconds(each.pid) for each in gateways) - cpu
    requests = sum(load.requests for load in loads)
    rate = sum(load.requests / load.seconds for load in loads)
    return {"rate": rate, "cpu": spent / requests * 1000}


async def _scanners(session: Session) -> list[Figure]:
    async with scans.scene(session, "cores-scanners") as scene:
        await scene.anchore.slow_down(LATENCY)
        await scene.anchore.be_limited()
        sides = {str(count): partial(_scan, session, scene, count) for count in range(1, SCANNERS + 1)}

        rounds = await interleaved(session, sides, min(session.rounds, 3))
    return _scanner_figures(rounds)


async def _scan(session: Session, scene: Scene, count: int) -> Sample:
    """So many scanners that share the queue."""
    async with AsyncExitStack() as stack:
        scanners: list[ScannerProcess] = [
            await stack.enter_async_context(scene.scanner()) for _ in range(count)
        ]
        await scene.measure(scanners, session.size(round(ALONE), least=8))  # its limits settle
        return await scene.measure(scanners, session.size(round(ALONE * count * _SECONDS), least=8 * count))


def _scanner_figures(rounds: Rounds) -> list[Figure]:
    alone = rounds.of("1", "rate")
    most = round(ANCHORE / ALONE)
    """Scanners that Anchore's limit has room for."""
    found = [
        figure(
            f"cores: {most} scanners / one",
            "ratio",
            ratios(rounds.of(str(most), "rate"), alone),
            at_least(most * LINEAR),
        ),
        figure(
            f"cores: {SCANNERS} scanners / Anchore's limit",
            "ratio",
            [each / ANCHORE for each in rounds.of(str(SCANNERS), "rate")],
            at_least(LINEAR),
        ),
    ]
    for count in rounds.samples:
        found += [
            figure(f"cores: verdicts of {count} scanners", "1/s", rounds.of(count, "rate")),
            figure(f"cores: CPU a verdict with {count} scanners", "ms", rounds.of(count, "cpu")),
        ]
    return found
