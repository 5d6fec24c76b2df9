"""Whether Anchore evaluates is seen by a known image's check: after a quiet time, or at once when in doubt."""

import asyncio
from typing import Any, cast

import pytest

from services.scanner.anchore import Anchore
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.health import QUIET, Health
from shared import images
from shared.contracts import ErrorClass
from shared.errors import Unavailable
from tests.support.virtual_time import virtually

KNOWN = ("sha256:0", images.parse("r.example/a:1"), "b")


class Fake:
    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.calls: list[tuple[Any, ...]] = []

    async def check(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fault:
            raise self.fault


def made() -> tuple[Fake, Health]:
    fake = Fake()
    return fake, Health(cast(Anchore, fake))


@virtually
async def test_without_a_known_image_there_is_nothing_to_ask() -> None:
    fake, health = made()
    await asyncio.sleep(10 * QUIET)
    await health.look(in_doubt=True)
    await health.look(in_doubt=False)
    assert fake.calls == []


@virtually
async def test_while_scans_succeed_nothing_is_asked() -> None:
    fake, health = made()
    for _ in range(20):
        health.checked(*KNOWN)
        await asyncio.sleep(QUIET - 1)
        await health.look(in_doubt=False)
    assert fake.calls == []


@virtually
async def test_after_a_quiet_time_the_known_image_is_checked_once() -> None:
    fake, health = made()
    health.checked(*KNOWN)
    await asyncio.sleep(QUIET)
    await health.look(in_doubt=False)
    assert fake.calls == [(*KNOWN, "health_check")]
    await asyncio.sleep(QUIET - 1)
    await health.look(in_doubt=False)
    assert len(fake.calls) == 1
    await asyncio.sleep(1)
    await health.look(in_doubt=False)
    assert len(fake.calls) == 2


@virtually
async def test_in_doubt_it_is_checked_at_once_and_each_time() -> None:
    fake, health = made()
    health.checked(*KNOWN)
    await health.look(in_doubt=True)
    await health.look(in_doubt=True)
    assert len(fake.calls) == 2


@virtually
async def test_no_evaluation_is_an_outage() -> None:
    fake, health = made()
    health.checked(*KNOWN)
    for fault in (TryAgain("500"), Unavailable("anchore", "refused")):
        fake.fault = fault
        with pytest.raises(type(fault)):
            await health.look(in_doubt=True)
    await asyncio.sleep(QUIET)
    with pytest.raises(Unavailable):
        await health.look(in_doubt=False)
    assert len(fake.calls) == 3, "a failed look is no proof: the image stays known"


@virtually
async def test_any_answer_about_the_image_is_an_answer_and_another_image_is_taken_next() -> None:
    for fault in (ScanFailed(ErrorClass.BUNDLE_UNKNOWN, "gone"), NotAnalyzed("queued anew")):
        fake, health = made()
        health.checked(*KNOWN)
        fake.fault = fault
        await health.look(in_doubt=True)
        await health.look(in_doubt=True)
        assert len(fake.calls) == 1
        health.checked(*KNOWN)
        await health.look(in_doubt=True)
        assert len(fake.calls) == 2
