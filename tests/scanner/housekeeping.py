"""Stand-ins for what the housekeeping talks to, and several scanners with a clock each, in virtual time."""

import asyncio
import contextvars
import random
from collections.abc import Coroutine
from datetime import UTC, datetime, tzinfo
from typing import Any, cast

import pytest

from services.scanner import bundles
from services.scanner.anchore import Bundle, Evaluation
from services.scanner.breaker import Breaker
from services.scanner.bundles import Bundles
from services.scanner.health import Health
from shared import images
from shared.contracts import Result, TenantRecord
from shared.errors import Unavailable
from shared.images import ImageReference
from shared.verdict_store import VerdictBuckets
from tests.support.virtual_time import VirtualLoop

START = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
TENANT = "team-a"
CLOCK = contextvars.ContextVar("CLOCK", default=0.0)
"""Seconds by which this scanner's clock is ahead."""


def virtual(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run in virtual time, the wall clock too."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        patch.setattr(bundles, "datetime", WallClock)
        random.seed(1)
        runner.run(coroutine)


def now() -> float:
    """Seconds since the test began."""
    return asyncio.get_running_loop().time() - 1000.0


class WallClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "WallClock":
        return cls.fromtimestamp(START + now() + CLOCK.get(), tz)


class FakeAnchore:
    """Lists its bundles and checks, or raises what it is told to."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {"id": "b"}
        self.fault: Exception | None = None
        self.check_fault: Exception | None = None
        self.seconds = 0.0
        self.reads: list[float] = []
        self.checks: list[float] = []

    async def bundles(self) -> list[Bundle]:
        self.reads.append(now())
        await asyncio.sleep(self.seconds)
        if self.fault:
            raise self.fault
        return [
            Bundle(bundle_id="b", is_active=True, content=self.content),
            Bundle(bundle_id="other", is_active=False, content={}),
        ]

    async def check(
        self, digest: str, reference: ImageReference, bundle_id: str, operation: str = "check"
    ) -> Evaluation:
        del digest, reference, bundle_id
        assert operation == "health_check"
        self.checks.append(now())
        if self.check_fault:
            raise self.check_fault
        return Evaluation(result=Result.PASS, is_mapped=True)


class FakeBuckets:
    """One entry, or no NATS."""

    def __init__(self) -> None:
        self.record: TenantRecord | None = None
        self.history: list[tuple[float, TenantRecord]] = []
        self.ttl = 0.0
        self.is_away = False

    async def tenant(self, tenant: str) -> TenantRecord | None:
        self._answer(tenant)
        return self.record

    async def put_tenant(self, record: TenantRecord, ttl: float) -> None:
        self._answer(record.tenant)
        self.record, self.ttl = record, ttl
        self.history.append((now(), record))

    def says_away(self) -> bool:
        """Whether the record says that nobody answers."""
        return self.record is not None and self.record.away_since is not None

    def _answer(self, tenant: str) -> None:
        assert tenant == TENANT
        if self.is_away:
            raise Unavailable("nats", "not connected")


class Scanner:
    """One process' housekeeping of the tenant."""

    def __init__(self, anchore: Any, buckets: FakeBuckets, *, ahead: float = 0.0, **more: Any) -> None:
        self.breaker = Breaker()
        self.health = Health(anchore)
        self.bundles = Bundles(
            TENANT,
            anchore,
            cast(VerdictBuckets, buckets),
            self.breaker,
            self.health,
            **{"ttl": 86400.0, **more},
        )
        self.breaker.on_open(self.bundles.look_soon)
        self._ahead = ahead
        self._task: asyncio.Task[None] | None = None

    def start(self) -> "Scanner":
        context = contextvars.copy_context()
        context.run(CLOCK.set, self._ahead)
        self._task = asyncio.get_running_loop().create_task(self.bundles.run(), context=context)
        return self

    async def stop(self) -> None:
        """As often as it takes: the `wait_for` of Python 3.11 swallows a cancellation that meets its result."""
        while self._task and not self._task.done():
            self._task.cancel()
            await asyncio.sleep(0)

    def gives_up(self) -> bool:
        """Whether scans are not let through; a call, for it changes while others run."""
        return self.breaker.is_open

    def has_checked(self) -> None:
        """A scan went well."""
        self.health.checked("sha256:" + "a" * 64, images.parse("r.example/a:1"), "b")


def most_in_a_minute(times: list[float]) -> int:
    return max((sum(begin <= each < begin + 60 for each in times) for begin in times), default=0)


def longest_gap(times: list[float], until: float) -> float:
    return max(later - earlier for earlier, later in zip([0.0, *times], [*times, until], strict=True))
