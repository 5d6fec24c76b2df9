"""The verdict mirror by its size: time until it is complete, memory, and whether a lookup stays as fast.

Each size is measured in a process of its own (mirror_process.py), so that memory is the mirror's and nobody else's.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

import msgspec

from deploy.dev.services import ROOT
from tests.bench import bucket_filling
from tests.bench.figures import Figure, at_most, figure, ratios
from tests.bench.mirror_process import Mirrored
from tests.bench.session import Session
from tests.bench.stage import Stage, stage

SIZES = 1_000, 10_000, 100_000
LARGEST = 1_000_000
"""Reported only, and only when asked for (`--large`): writing them takes minutes. Their values are short, for all must
fit the bucket."""

_FLAT = 1.2
"""What may be lost to noise and caches where a figure should stay the same."""


async def run(session: Session) -> Sequence[Figure]:
    """By size, and how it grows from one to the next."""
    async with stage(session, "mirror") as stand:
        found, filled, value_bytes = {}, 0, 0
        for size in [session.size(each) for each in SIZES]:
            session.log(f"mirror: up to {size} verdicts")
            value_bytes += await bucket_filling.put_others(stand.broker, range(filled, size))
            filled = size
            found[size] = [await _measure(session, stand) for _ in range(session.rounds)]
        figures = _figures(found, value_bytes / filled)
        if session.large:
            session.log(f"mirror: up to {LARGEST} verdicts")
            await bucket_filling.put_others(stand.broker, range(filled, LARGEST), is_long=False)
            figures += _reported(LARGEST, [await _measure(session, stand)])
    return figures


async def _measure(session: Session, stand: Stage) -> Mirrored:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.bench.mirror_process", stand.nats.url),
        cwd=ROOT,
        env=os.environ,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    found = msgspec.json.decode(said, type=Mirrored)
    session.log(f"{found.entries} entries: ready in {found.ready:.2f} s, {found.resident / 1e6:.1f} MB")
    return found


def _figures(found: dict[int, list[Mirrored]], value_bytes: float) -> list[Figure]:
    smallest, middle, large = list(found)[:3]
    beside = [each.resident / each.entries - value_bytes for each in found[large]]
    linear = ratios([each.ready for each in found[large]], [each.ready for each in found[middle]])
    flat = ratios([each.p99 for each in found[large]], [each.p99 for each in found[smallest]])
    figures = [
        figure("mirror: 100,000 verdicts ready", "s", [each.ready for each in found[large]], at_most(3)),
        figure("mirror: RSS a verdict beside its value", "B", beside, at_most(400)),
        figure(
            "mirror: time a verdict, 100,000 / 10,000",
            "ratio",
            [each * middle / large for each in linear],
            at_most(_FLAT),
        ),
        figure("mirror: p99 of a lookup, 100,000 / 1,000", "ratio", flat, at_most(_FLAT)),
    ]
    for size, runs in found.items():
        figures += _reported(size, runs)
    return figures


def _reported(size: int, runs: list[Mirrored]) -> list[Figure]:
    return [
        figure(f"mirror: {size:,}, ready", "s", [each.ready for each in runs]),
        figure(f"mirror: {size:,}, RSS", "MB", [each.resident / 1e6 for each in runs]),
        figure(f"mirror: {size:,}, p99 of a lookup", "µs", [each.p99 for each in runs]),
        figure(f"mirror: {size:,}, CPU", "s", [each.cpu for each in runs]),
    ]
