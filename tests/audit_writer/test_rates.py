"""How fast writes may come."""

import asyncio

import pytest

from services.audit_writer import rates
from services.audit_writer.audit import Standing, audit_of
from services.audit_writer.cluster import AuditCluster
from services.audit_writer.rates import WriteRate
from shared.cluster import Cluster
from shared.errors import Unavailable
from tests.audit_writer.decisions import decision
from tests.support.virtual_time import virtually


async def turns(rate: WriteRate, count: int) -> list[float]:
    """When each of so many got its turn, in seconds from now."""
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def turn() -> float:
        await rate.take()
        return loop.time() - begun

    return await asyncio.gather(*(turn() for _ in range(count)))


@virtually
async def test_a_burst_at_once_and_then_the_rate() -> None:
    rate = WriteRate(rate=10, burst=5)
    assert await turns(rate, 8) == pytest.approx([0, 0, 0, 0, 0, 0.1, 0.2, 0.3])
    await asyncio.sleep(0.25)
    assert await turns(rate, 3) == pytest.approx([0, 0, 0.05])
    await asyncio.sleep(3600)
    assert await turns(rate, 7) == pytest.approx([0, 0, 0, 0, 0, 0.1, 0.2])


@virtually
async def test_what_the_server_asks_for_holds_for_everybody_but_not_for_ever() -> None:
    rate = WriteRate(rate=10, burst=5)
    rate.pause(3)
    rate.pause(1)
    assert await turns(rate, 2) == pytest.approx([3, 3.1])
    rate.pause(86400)
    assert await turns(rate, 1) == pytest.approx([rates.LONGEST_PAUSE])


class TiredCluster(Cluster):
    """Answers every request with a 429."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []

    async def request(self, *_: object, **__: object) -> bytes:
        self.asked_at.append(asyncio.get_running_loop().time())
        raise Unavailable("kubernetes", "429 too many requests", delay=7)


@virtually
async def test_writes_stop_for_the_servers_retry_after() -> None:
    tired = TiredCluster()
    audits = AuditCluster(tired)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await audits.apply(audit_of(decision(), Standing(name="pod-web")))
    assert tired.asked_at[1] - tired.asked_at[0] == pytest.approx(7)
