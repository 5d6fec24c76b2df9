"""What recording costs: gateways with other outboxes under the same load, in turns.

    python -m tests.bench.outbox                          the ways of recording there are
    python -m tests.bench.outbox --against ../other       and another working copy's gateway, as it comes

Each round asks every gateway for the same number of admissions of a known image, over TLS on 16 connections, from
this process; so what counts is the ratio within a round. CPU is the gateway's alone: the load's and NATS' are not in it.
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import msgspec

from deploy.dev.nats import NatsServer
from deploy.dev.services import ROOT
from shared.contracts import Result
from tests.support.builders import pod, review
from tests.support.gateways import GOOD, LoneGateway, make_known

CONNECTIONS = 16
_TICKS = os.sysconf("SC_CLK_TCK")


class Run(msgspec.Struct, frozen=True):
    """One gateway in one round."""

    rate: float
    """Admissions a second."""
    p50: float
    p99: float
    """Milliseconds."""
    cpu: float
    """Seconds of the gateway for a thousand admissions."""


async def main(admissions: int, rounds: int, against: Path | None) -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            nats = await stack.enter_async_context(NatsServer(folder=folder / "nats"))
            await make_known(nats, (GOOD, Result.PASS))
            gateways = {}
            for way, (root, settings) in _ways(folder, against).items():
                (folder / way).mkdir()
                gateways[way] = LoneGateway(folder / way, nats, root=root, **settings)
                await stack.enter_async_context(gateways[way].process)
                await _load(gateways[way], admissions // 10, "warm")
            runs: dict[str, list[Run]] = {way: [] for way in gateways}
            for number in range(rounds):
                for way, gateway in gateways.items():
                    runs[way].append(await _measure(gateway, admissions, f"{way}-{number}"))
    _print(runs)


def _ways(folder: Path, against: Path | None) -> dict[str, tuple[Path, dict[str, str]]]:
    ways: dict[str, tuple[Path, dict[str, str]]] = {
        "memory": (ROOT, {}),
        "outbox": (ROOT, {"OUTBOX_DIR": str(folder / "a")}),
        "ack": (ROOT, {"OUTBOX_DIR": str(folder / "b"), "DECISION_DURABILITY": "ack"}),
    }
    return {"other": (against.resolve(), {}), **ways} if against else ways


async def _measure(gateway: LoneGateway, admissions: int, prefix: str) -> Run:
    """Until the last of them is acknowledged: what is put off costs as well."""
    before, began = _cpu(gateway.process.pid), time.monotonic()
    times = await _load(gateway, admissions, prefix)
    took = time.monotonic() - began
    while await gateway.metric("moorgate_outbox_entries"):
        await asyncio.sleep(0.05)
    cpu = (_cpu(gateway.process.pid) - before) / admissions * 1000
    times.sort()
    return Run(admissions / took, times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000, cpu)


async def _load(gateway: LoneGateway, admissions: int, prefix: str) -> list[float]:
    """How long each took, in seconds."""
    times: list[float] = []
    numbers = iter(range(admissions))
    body = msgspec.json.encode(review(pod(GOOD, name="web-0"), uid="THE-UID"))
    headers = {"Content-Type": "application/json"}

    async def ask(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            uid = f"{prefix}-{number}-{os.getpid()}"
            began = time.perf_counter()
            async with session.post(
                gateway.url(), data=body.replace(b"THE-UID", uid.encode()), headers=headers
            ) as answer:
                text = await answer.read()
            if b'"allowed":true' not in text:
                raise RuntimeError(text.decode())
            times.append(time.perf_counter() - began)

    async with gateway.caller(CONNECTIONS) as session:
        await asyncio.gather(*(ask(session) for _ in range(CONNECTIONS)))
    return times


def _cpu(pid: int) -> float:
    """Seconds of CPU of a process, whatever the shell that started it has become."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _print(runs: dict[str, list[Run]]) -> None:
    first = next(iter(runs))
    _write(f"{'':8}  {'rate/s':>8}  {'ratio':>20}  {'p50 ms':>7}  {'p99 ms':>7}  {'CPU s per 1,000':>22}")
    for way, found in runs.items():
        ratios = sorted(each.rate / base.rate for each, base in zip(found, runs[first], strict=True))
        cpu = sorted(each.cpu for each in found)
        _write(
            f"{way:8}  {statistics.median(each.rate for each in found):8.0f}"
            f"  {_spread(ratios):>20}  {statistics.median(each.p50 for each in found):7.2f}"
            f"  {statistics.median(each.p99 for each in found):7.2f}  {_spread(cpu):>22}"
        )


def _write(line: str) -> None:
    print(line, flush=True)  # noqa: T201  the command's output


def _spread(values: list[float]) -> str:
    """The middle, and between what."""
    return f"{statistics.median(values):.3f} ({values[0]:.2f}..{values[-1]:.2f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What recording decisions costs.")
    parser.add_argument("--admissions", type=int, default=4000, help="a round and gateway")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another working copy")
    given = parser.parse_args()
    asyncio.run(main(given.admissions, given.rounds, given.against))
