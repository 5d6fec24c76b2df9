"""What each service weighs while it has nothing to do: resident memory, and the time from its start to ready.

With a real API server, as in a cluster; NATS and everything in it are there before.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from deploy.dev.processes import Process
from deploy.dev.services import Services
from tests.bench import processes
from tests.bench.figures import Figure, at_most, figure
from tests.bench.session import Sample, Session, interleaved
from tests.bench.stage import stage

MIB = 1024 * 1024
RESIDENT = {"scanner": 60, "gateway": 90, "audit_writer": 90}
"""MiB. Neither gateway nor audit-writer loads the generated Kubernetes models."""

READY = 2.0
"""Seconds."""

_SETTLE = 3.0
"""Seconds until a service counts as idle: what it reads at the start is read by then."""


async def run(session: Session) -> Sequence[Figure]:
    """Three figures a service."""
    plane = await session.plane()
    async with stage(session, "weight") as stand:
        services = Services(
            folder=stand.folder / "services",
            nats_url=stand.nats.url,
            kubeconfig=plane.kubeconfig(),
            namespace="moorgate",
            anchore_url="http://127.0.0.1:9",  # nobody: a scanner without work asks nobody
        )
        async with services:  # once, so that what is made only once is there
            starts = dict(services.processes)
        rounds = await interleaved(
            session, {name: partial(_measure, session, each) for name, each in starts.items()}
        )
    figures = []
    for name in starts:
        service = name.removesuffix("-0")
        figures += [
            figure(f"weight: {service}, RSS", "MiB", rounds.of(name, "resident"), at_most(RESIDENT[service])),
            figure(f"weight: {service}, ready", "s", rounds.of(name, "ready"), at_most(READY)),
            figure(f"weight: {service}, CPU until idle", "s", rounds.of(name, "cpu")),
        ]
    return figures


async def _measure(session: Session, process: Process) -> Sample:
    began = time.monotonic()
    await process.start()
    try:
        ready = time.monotonic() - began
        await asyncio.sleep(_SETTLE * min(1.0, session.scale))
        return {
            "ready": ready,
            "resident": processes.resident(process.pid) / MIB,
            "cpu": processes.cpu_seconds(process.pid),
        }
    finally:
        await process.stop()
