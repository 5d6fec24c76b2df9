"""The checks: each image that runs, by the candidate and by the bundle in force, both now.

Both, although most verdicts of the bundle in force are known: a finding that came since then would be put down to the
candidate. Every check is interactive: Anchore evaluates and keeps nothing of it. An image is looked up by its digest first,
which says whether Anchore has it and has analysed it; nothing is ever added, and no analysis is asked for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import msgspec

from services.cli.what_if.accounts import Account
from services.cli.what_if.uses import Subject
from services.scanner.anchore import ANALYZED
from services.scanner.evaluation import Judged, OnUnmapped, judge
from services.scanner.failures import NotAnalyzed, ScanFailed, TryAgain
from shared import images
from shared.contracts import ErrorClass
from shared.errors import MoorgateError, Unavailable

AT_ONCE = 8
"""Images in work at the same time, as many as one scanner's."""

TRIES, PAUSE = 4, 1.0
"""Calls of one check until Anchore's stumbling, or its silence, counts; seconds between two."""

T = TypeVar("T")


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One image by both bundles, or why it could not be judged."""

    before: Judged | None = None
    after: Judged | None = None
    trouble: str = ""


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's Anchore, and the two bundles in it."""

    account: Account
    in_force: str
    candidate: str


async def compare_all(
    subjects: Iterable[tuple[Subject, Sides]], on_unmapped: OnUnmapped, progress: Callable[[int], None]
) -> dict[Subject, Compared]:
    """Each once, so many at a time. Raises `MoorgateError` where an Anchore goes away or takes us no more."""
    waiting = iter(subjects)
    found: dict[Subject, Compared] = {}

    async def work() -> None:
        for subject, sides in waiting:
            found[subject] = await _compared(subject, sides, on_unmapped)
            progress(len(found))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return found


async def _compared(subject: Subject, sides: Sides, on_unmapped: OnUnmapped) -> Compared:
    checks, reference = sides.account.checks, images.parse(subject.reference)
    try:
        image = await _patiently(lambda: checks.image(subject.digest))
        if image is None:
            return Compared(trouble="Anchore does not know the digest that runs")
        if image.analysis_status != ANALYZED:
            return Compared(trouble=f"Anchore has not analysed it ({image.analysis_status})")
        after = await _patiently(lambda: checks.check(image.digest, reference, sides.candidate))
        before = after
        if sides.in_force != sides.candidate:
            before = await _patiently(lambda: checks.check(image.digest, reference, sides.in_force))
        return Compared(before=judge(before, on_unmapped), after=judge(after, on_unmapped))
    except (NotAnalyzed, TryAgain) as error:
        return Compared(trouble=str(error))
    except ScanFailed as error:
        if error.error in (ErrorClass.ANCHORE_UNAUTHORIZED, ErrorClass.BUNDLE_UNKNOWN):
            raise MoorgateError(f"tenant {subject.tenant}: {error}") from error
        return Compared(trouble=str(error))


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    for _ in range(TRIES - 1):
        try:
            return await call()
        except TryAgain:
            await asyncio.sleep(PAUSE)
        except Unavailable as error:
            await asyncio.sleep(error.delay)
    return await call()
