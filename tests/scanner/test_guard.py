"""The scans' way to Anchore: nothing gets past an open breaker, and every outcome counts for what it is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from services.scanner.anchore import Anchore
from services.scanner.breaker import THRESHOLD, Breaker
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from services.scanner.guard import CallSlots, GuardedAnchore
from services.scanner.limits import START
from shared import images
from shared.contracts import ErrorClass
from shared.errors import Unavailable
from shared.subjects import Lane

TAGGED = images.parse("r.example/a:1")
AWAY = Unavailable("anchore", "refused")
STUMBLED = TryAgain("500")
REFUSED = ScanFailed(ErrorClass.IMAGE_NOT_FOUND, "no")

CALLS: dict[str, Callable[[GuardedAnchore], Awaitable[Any]]] = {
    "image_add": lambda anchore: anchore.add_image(TAGGED),
    "image_get": lambda anchore: anchore.image("sha256:0"),
    "check": lambda anchore: anchore.check("sha256:0", TAGGED, "b"),
}


class Fake:
    """Answers, fails, or holds its answers back."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.calls: list[tuple[Any, ...]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def _answer(self, *call: Any) -> Any:
        self.calls.append(call)
        await self.go.wait()
        if self.fault:
            raise self.fault
        return call

    async def add_image(self, *arguments: Any) -> Any:
        return await self._answer("image_add", *arguments)

    async def image(self, *arguments: Any) -> Any:
        return await self._answer("image_get", *arguments)

    async def check(self, *arguments: Any) -> Any:
        return await self._answer("check", *arguments)

    async def bundles(self) -> Any:
        return await self._answer("bundles")


class Scene:
    def __init__(self) -> None:
        self.fake, self.breaker, self.slots = Fake(), Breaker(), CallSlots(8)
        self.admission, self.rescan = (
            GuardedAnchore(cast(Anchore, self.fake), self.breaker, self.slots, lane)
            for lane in (Lane.ADMISSION, Lane.RESCAN)
        )

    async def call(self, operation: str, fault: Exception | None = None) -> None:
        self.fake.fault = fault
        if fault is None:
            await CALLS[operation](self.admission)
            return
        with pytest.raises(type(fault)):
            await CALLS[operation](self.admission)


@pytest.mark.parametrize("operation", CALLS)
async def test_what_is_asked_and_answered_passes_unchanged(operation: str) -> None:
    scene = Scene()
    answer = cast(tuple[Any, ...], await CALLS[operation](scene.admission))
    assert scene.fake.calls == [answer]
    assert answer[0] == operation


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize("fault", [AWAY, STUMBLED])
async def test_no_answer_and_inner_errors_open_the_breaker(operation: str, fault: Exception) -> None:
    scene = Scene()
    for _ in range(THRESHOLD):
        assert not scene.breaker.is_open
        await scene.call(operation, fault)
    assert scene.breaker.is_open
    before = len(scene.fake.calls)
    for other in CALLS:
        await scene.call(other, AWAY)
    assert len(scene.fake.calls) == before, "and nobody asks any more"


@pytest.mark.parametrize("answer", [REFUSED, NotAnalyzed("wait"), None])
async def test_any_answer_counts_as_one(answer: Exception | None) -> None:
    scene = Scene()
    for _ in range(3):
        for _ in range(THRESHOLD - 1):
            await scene.call("check", STUMBLED)
        await scene.call("check", answer)
    for _ in range(20):
        await scene.call("check", answer)
    assert not scene.breaker.is_open


async def test_each_operation_is_counted_for_itself() -> None:
    scene = Scene()
    for _ in range(THRESHOLD - 1):
        await scene.call("check", STUMBLED)
        await scene.call("image_add")
    await scene.call("check", STUMBLED)
    assert scene.breaker.is_open


async def test_a_call_that_stood_in_the_queue_when_the_breaker_opened_is_not_made() -> None:
    scene = Scene()
    scene.fake.go.clear()
    tasks = [asyncio.create_task(scene.admission.check("sha256:0", TAGGED, "b")) for _ in range(START + 4)]
    await asyncio.sleep(0.01)
    assert len(scene.fake.calls) == START
    scene.breaker.open("away")
    scene.fake.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, Unavailable) for each in results] == [False] * START + [True] * 4
    assert len(scene.fake.calls) == START
    scene.breaker.close()
    await scene.call("check")


@pytest.mark.parametrize("fault", [None, AWAY, STUMBLED, REFUSED, ValueError("a bug")])
async def test_whatever_comes_of_a_call_its_slot_is_free_again(fault: Exception | None) -> None:
    scene = Scene()
    for operation in CALLS:
        for _ in range(40):
            await scene.call(operation, fault)
            scene.breaker.close()
        assert set(scene.slots.slots[operation]._under_way.values()) == {0}


async def test_no_answer_halves_the_bound_and_an_inner_error_does_not() -> None:
    scene = Scene()
    await scene.call("check", STUMBLED)
    assert scene.slots.limits["check"].value == START
    await scene.call("check", AWAY)
    assert scene.slots.limits["check"].value == START // 2
    assert scene.slots.limits["image_add"].value == START, "each kind has its own"


async def test_the_lanes_share_the_bound_and_rescans_wait() -> None:
    scene = Scene()
    scene.fake.go.clear()
    rescans = [asyncio.create_task(scene.rescan.image("sha256:0")) for _ in range(10)]
    await asyncio.sleep(0.01)
    admissions = [asyncio.create_task(scene.admission.image("sha256:1")) for _ in range(START)]
    await asyncio.sleep(0.01)
    asked = [call[1] for call in scene.fake.calls]
    assert asked == ["sha256:0"] * START + ["sha256:1"] * START
    scene.fake.go.set()
    await asyncio.gather(*rescans, *admissions)


async def test_the_bundles_go_round_the_breaker() -> None:
    scene = Scene()
    scene.breaker.open("away")
    assert cast(object, await scene.admission.bundles()) == ("bundles",)
