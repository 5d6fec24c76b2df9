"""Scanners against the arithmetic limit: simulator at 20 ms a call, two calls an image, eight at once are 200 a second."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared import streams, subjects
from shared.contracts import ScanRequest
from shared.subjects import Lane, scan_subject, verdict_key
from tests.bench import processes
from tests.bench.anchore import BUNDLE, AnchoreProcess
from tests.bench.figures import Figure, at_least, at_most, figure
from tests.bench.session import Sample, Session, interleaved
from tests.bench.stage import Stage, stage
from tests.support.scanners import ScannerProcess

LATENCY, CONCURRENCY, CALLS = 0.020, 8, 2
LIMIT = CONCURRENCY / (CALLS * LATENCY)
"""Verdicts a second, if nothing but Anchore took any time."""

_IMAGES = 1000
_WITHIN = 300.0
"""Seconds for all of a run."""


async def run(session: Session) -> Sequence[Figure]:
    """One scanner."""
    async with scene(session, "scans") as bench, bench.scanner() as scanner:
        await bench.measure([scanner], session.size(_IMAGES) // 10)
        rounds = await interleaved(
            session, {"scanner": lambda: bench.measure([scanner], session.size(_IMAGES))}
        )
    rate = rounds.of("scanner", "rate")
    return [
        figure(
            "scanner: verdicts / arithmetic limit", "ratio", [each / LIMIT for each in rate], at_least(0.85)
        ),
        figure("scanner: CPU a verdict", "ms", rounds.of("scanner", "cpu"), at_most(1.5)),
        figure("scanner: Anchore calls an image", "calls", rounds.of("scanner", "calls"), at_most(CALLS)),
        figure("scanner: verdicts", "1/s", rate),
        figure("scanner: limit", "1/s", [LIMIT]),
    ]


@dataclass(kw_only=True)
class Scene:
    """NATS, the simulator, and images that nobody has asked for yet."""

    stand: Stage
    anchore: AnchoreProcess
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count, init=False)

    @asynccontextmanager
    async def scanner(self) -> AsyncIterator[ScannerProcess]:
        """One more."""
        settings = {"SCANNER_CONCURRENCY": str(CONCURRENCY), "LOG_FORMAT": "json"}
        process = ScannerProcess(
            self.stand.folder, self.stand.nats, {"default": self.anchore.url}, **settings
        )
        async with process:
            yield process

    async def images(self, count: int) -> list[str]:
        """New ones, analysed already."""
        found = [f"registry.example/bulk/bench-{next(self._numbers):06}:1" for _ in range(count)]
        await self.anchore.preload(found)
        return found

    async def measure(self, scanners: list[ScannerProcess], count: int) -> Sample:
        """So many images at once: verdicts a second, CPU ms of all scanners and calls to Anchore a verdict."""
        images = await self.images(count)
        calls = sum([_of_scans(await each.calls()) for each in scanners])
        cpu = sum(processes.cpu_seconds(each.pid) for each in scanners)
        verdicts, began = await self._verdicts(), time.monotonic()
        await asyncio.gather(*(self._ask(image) for image in images))
        await self._until(verdicts + count)
        taken = time.monotonic() - began
        cpu = sum(processes.cpu_seconds(each.pid) for each in scanners) - cpu
        calls = sum([_of_scans(await each.calls()) for each in scanners]) - calls
        return {"rate": count / taken, "cpu": cpu / count * 1000, "calls": calls / count}

    async def _ask(self, image: str) -> None:
        request = ScanRequest(
            tenant="default", image=image, bundle_id=BUNDLE, asked_at=datetime.now(UTC), asked_by="bench"
        )
        key = verdict_key("default", BUNDLE, image)
        subject = scan_subject(Lane.ADMISSION, "default", key)
        if not await self.stand.broker.publish_unless_waiting(subject, request):
            raise RuntimeError(f"{image} was asked for before")

    async def _verdicts(self) -> int:
        info = await self.stand.broker.jetstream.stream_info(streams.bucket_stream(subjects.VERDICTS))
        return int(info.state.messages)

    async def _until(self, verdicts: int) -> None:
        async with asyncio.timeout(_WITHIN):
            while await self._verdicts() < verdicts:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def scene(session: Session, name: str) -> AsyncIterator[Scene]:
    """Without a scanner yet."""
    async with stage(session, name) as stand, AsyncExitStack() as stack:
        anchore = await stack.enter_async_context(AnchoreProcess(stand.folder))
        await anchore.slow_down(LATENCY)
        yield Scene(stand=stand, anchore=anchore)


def _of_scans(calls: dict[str, float]) -> float:
    """Calls made for an image: what keeps the bundles is made whatever is asked."""
    return sum(calls.get(operation, 0.0) for operation in ("image_add", "image_get", "check"))
