"""One mirror in a process of its own: `python -m tests.bench.mirror_process NATS` prints what it measured as JSON."""

import asyncio
import os
import random
import sys
import time

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from shared import logs
from shared.broker import BrokerSettings, open_broker
from shared.lifecycle import background
from shared.logs import LogFormat, LogLevel
from shared.metrics import CommonMetrics
from shared.verdict_store import VerdictMirror
from tests.bench import processes

_LOOKUPS = 20_000


class Mirrored(msgspec.Struct, frozen=True, kw_only=True):
    """What one process measured."""

    entries: int
    ready: float
    """Seconds from the connection to the last verdict."""
    resident: float
    """Bytes that the process grew by."""
    p99: float
    """Of a lookup, decoding included, in microseconds."""
    cpu: float
    """Seconds until it was complete."""


async def _measure(url: str) -> Mirrored:
    metrics = CommonMetrics(CollectorRegistry())
    async with open_broker(BrokerSettings(url=url), "bench-mirror", metrics) as broker:
        await broker.connected()
        verdicts = VerdictMirror(broker)
        before, cpu, began = processes.resident(os.getpid()), time.process_time(), time.monotonic()
        async with background(verdicts.verdicts.run()):
            await verdicts.verdicts.ready.wait()
            ready, cpu = time.monotonic() - began, time.process_time() - cpu
            await asyncio.sleep(0.5)
            grown = processes.resident(os.getpid()) - before
            return Mirrored(
                entries=len(verdicts.verdicts), ready=ready, resident=grown, p99=_p99(verdicts), cpu=cpu
            )


def _p99(verdicts: VerdictMirror) -> float:
    keys = list(verdicts.verdicts)
    taken = []
    for key in random.choices(keys, k=_LOOKUPS):
        began = time.perf_counter_ns()
        found = verdicts.verdict(key)
        taken.append(time.perf_counter_ns() - began)
        if found is None:
            raise RuntimeError(f"no verdict under {key}")
    return sorted(taken)[int(_LOOKUPS * 0.99)] / 1000


def main() -> int:
    """The exit code."""
    logs.set_up(LogLevel.WARNING, LogFormat.JSON)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_measure(sys.argv[1]))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
