"""Leadership: never two by their own clocks, soon another, and what each fault costs.

Time is virtual. The Lease itself is kept by a small stand-in with the API server's rules for versions; tests/integration/test_certificates.py has
the real one.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from itertools import pairwise
from typing import Any

import pytest

from shared.cluster import Cluster
from shared.errors import Conflict, MoorgateError, Refused, Unavailable
from shared.leases import Leadership, LeaseTimes
from tests.support.virtual_time import VirtualLoop, virtually

TIMES = LeaseTimes()
COLLECTION = "/apis/coordination.k8s.io/v1/namespaces/moorgate/leases"


class Store:
    """The Leases of an API server."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    @property
    def holder(self) -> str:
        return str(self.lease["spec"].get("holderIdentity") or "") if self.lease else ""

    def create(self, lease: dict[str, Any]) -> bytes:
        if self.lease is not None:
            raise Conflict("already exists")
        return self._keep(lease)

    def patch(self, change: dict[str, Any]) -> bytes:
        if self.lease is None:
            raise Refused(404, "not found")
        if change["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified")
        spec = {**self.lease["spec"], **change["spec"]}
        return self._keep(
            {**self.lease, "spec": {key: value for key, value in spec.items() if value is not None}}
        )

    def _keep(self, lease: dict[str, Any]) -> bytes:
        self.version += 1
        self.lease = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self.version)}}
        return json.dumps(self.lease).encode()


class View(Cluster):
    """One process's way to the store, which may be cut, slow, or lose the answers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_cut = False
        self.refusal: MoorgateError | None = None
        self.delay = 0.0
        self.loses_answers = False
        self.answer_delay = 0.0
        self.written_at = 0.0
        self.writes = 0

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        **_: Any,
    ) -> bytes:
        assert path in (COLLECTION, f"{COLLECTION}/gateway")
        assert not query
        await asyncio.sleep(self.delay)
        if self.is_cut:
            await asyncio.sleep(60)
        if self.refusal:
            raise self.refusal
        answer = self._answer(method, json.loads(body) if body else {})
        await asyncio.sleep(self.answer_delay if method != "GET" else 0)
        if self.loses_answers:
            raise Unavailable("kubernetes", "connection reset")
        return answer

    def _answer(self, method: str, body: dict[str, Any]) -> bytes:
        if method == "GET":
            if self.store.lease is None:
                raise Refused(404, "not found")
            return json.dumps(self.store.lease).encode()
        self.writes += 1
        self.written_at = now()
        return self.store.create(body) if method == "POST" else self.store.patch(body)


class Candidate:
    """A process that wants to lead, and when it did."""

    def __init__(self, store: Store, times: LeaseTimes = TIMES) -> None:
        self.view = View(store)
        self.leadership = Leadership(self.view, "moorgate", "gateway", times)
        self.terms: list[list[float]] = []
        self.task: asyncio.Task[None] | None = None

    async def work(self) -> None:
        term = [now()]
        self.terms.append(term)
        try:
            await asyncio.Event().wait()
        finally:
            term.append(now())

    @property
    def leads(self) -> bool:
        return bool(self.terms) and len(self.terms[-1]) == 1

    def start(self, work: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self.task = asyncio.create_task(self.leadership.run(work or self.work))

    async def stop(self) -> None:
        assert self.task
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def until_leading(self, within: float = 60) -> float:
        begun = now()
        async with asyncio.timeout(within):
            while not self.leads:
                await asyncio.sleep(0.05)
        return now() - begun


def now() -> float:
    return asyncio.get_running_loop().time()


def overlaps(*candidates: Candidate) -> bool:
    terms = sorted(
        (term[0], term[1] if len(term) > 1 else float("inf")) for each in candidates for term in each.terms
    )
    return any(following[0] < before[1] for before, following in pairwise(terms))


@virtually
async def test_of_many_one_leads_and_the_lease_says_who() -> None:
    store = Store()
    candidates = [Candidate(store) for _ in range(5)]
    for each in candidates:
        each.start()
    await asyncio.sleep(120)
    assert [each.leads for each in candidates].count(True) == 1
    leader = next(each for each in candidates if each.leads)
    assert len(leader.terms) == 1
    assert leader.leadership.is_leading
    assert store.holder == leader.leadership.identity
    assert len({each.leadership.identity for each in candidates}) == 5
    assert store.lease is not None
    spec = store.lease["spec"]
    assert spec["leaseDurationSeconds"] == 15
    assert spec["renewTime"] > spec["acquireTime"]
    assert all(len(spec[key]) == len("2026-01-01T00:00:00.000000Z") for key in ("renewTime", "acquireTime"))
    assert sum(each.view.writes for each in candidates if each is not leader) <= 4, "only the create races"


@virtually
async def test_who_stops_gives_the_lease_back_and_the_next_comes_at_once() -> None:
    store = Store()
    first, second = Candidate(store), Candidate(store)
    first.start()
    await first.until_leading()
    second.start()
    await asyncio.sleep(5)
    await first.stop()
    assert store.holder == ""
    assert await second.until_leading() <= TIMES.retry + 0.1
    assert not overlaps(first, second)
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 1


@virtually
async def test_who_dies_is_replaced_when_the_lease_has_not_changed_for_its_duration() -> None:
    store = Store()
    first, second = Candidate(store), Candidate(store)
    first.start()
    second.start()
    await asyncio.sleep(10)
    dead, heir = (first, second) if first.leads else (second, first)
    dead.view.refusal = Unavailable("kubernetes", "dead")  # kill -9: nothing of it is written any more
    written = now()
    await heir.until_leading()
    assert TIMES.duration - TIMES.retry <= now() - written <= TIMES.duration + TIMES.retry + 0.1


@pytest.mark.parametrize("fault", ["silence", "errors"])
def test_who_cannot_renew_stops_before_another_may_start(fault: str) -> None:
    @virtually
    async def check() -> None:
        store = Store()
        first, second = Candidate(store), Candidate(store)
        first.start()
        await first.until_leading()
        second.start()
        await asyncio.sleep(7)
        cut_at = now()
        first.view.is_cut = fault == "silence"
        first.view.refusal = Unavailable("kubernetes", "503") if fault == "errors" else None
        await second.until_leading()
        ended = first.terms[0][1]
        assert cut_at <= ended <= cut_at + TIMES.renew_deadline
        assert second.terms[0][0] >= ended + (TIMES.duration - TIMES.renew_deadline) - TIMES.retry
        assert not overlaps(first, second)
        first.view.is_cut, first.view.refusal = False, None
        await asyncio.sleep(60)
        assert not first.leads
        assert second.leads

    check()


@virtually
async def test_writes_without_an_answer_do_not_count() -> None:
    candidate = Candidate(Store())
    candidate.start()
    await candidate.until_leading()
    candidate.view.loses_answers = True
    await asyncio.sleep(TIMES.renew_deadline + 0.1)
    assert not candidate.leads


@virtually
async def test_a_short_absence_of_the_api_server_costs_nothing() -> None:
    candidate = Candidate(Store())
    candidate.start()
    await candidate.until_leading()
    for _ in range(10):
        candidate.view.refusal = Unavailable("kubernetes", "restarting")
        await asyncio.sleep(TIMES.renew_deadline - TIMES.retry - 0.5)
        candidate.view.refusal = None
        await asyncio.sleep(TIMES.retry + 0.5)
    assert len(candidate.terms) == 1
    assert candidate.leads


@virtually
async def test_a_slow_api_server_is_counted_from_before_the_asking() -> None:
    """An answer that takes 4 s (read and write) renews from 4 s before: the others saw it no earlier."""
    store = Store()
    first, second = Candidate(store), Candidate(store)
    first.view.delay = 2.0
    first.start()
    await first.until_leading()
    second.start()
    await asyncio.sleep(60)
    assert first.leads
    first.view.is_cut = True
    cut_at = now()
    await second.until_leading()
    assert first.terms[0][1] <= cut_at + TIMES.renew_deadline
    assert not overlaps(first, second)


@virtually
async def test_an_answer_that_comes_late_is_counted_from_the_writing() -> None:
    store = Store()
    first, second = Candidate(store), Candidate(store)
    first.start()
    await first.until_leading()
    second.start()
    first.view.answer_delay = 4.5
    await asyncio.sleep(28)
    first.view.refusal = Unavailable("kubernetes", "away")
    await second.until_leading()
    assert first.terms[0][1] <= first.view.written_at + TIMES.renew_deadline + 0.1
    assert not overlaps(first, second)


@virtually
async def test_clocks_of_others_count_for_nothing() -> None:
    """A holder whose clock is years behind, or ahead, is respected as long as it renews, and no longer."""
    for year in (1999, 2099):
        store = Store()
        store.create({"metadata": {"name": "gateway"}, "spec": {}})
        candidate = Candidate(store)
        candidate.start()
        for second in range(30):
            assert store.lease is not None
            store.patch(
                {
                    "metadata": {"resourceVersion": store.lease["metadata"]["resourceVersion"]},
                    "spec": {
                        "holderIdentity": "other",
                        "leaseDurationSeconds": 15,
                        "renewTime": f"{year}-01-01T00:00:{second:02}.000000Z",
                    },
                }
            )
            await asyncio.sleep(2)
            assert not candidate.leads
        assert (
            TIMES.duration - 2 * TIMES.retry
            <= await candidate.until_leading()
            <= TIMES.duration + TIMES.retry
        )
        await candidate.stop()


@virtually
async def test_a_lease_taken_by_force_or_deleted() -> None:
    store = Store()
    candidate = Candidate(store)
    candidate.start()
    await candidate.until_leading()
    assert store.lease is not None
    version = store.lease["metadata"]["resourceVersion"]
    store.patch({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "thief"}})
    await asyncio.sleep(TIMES.retry + 0.1)
    assert not candidate.leads
    await candidate.until_leading()
    store.lease = None
    await asyncio.sleep(30)
    assert len(candidate.terms) == 2
    assert store.holder == candidate.leadership.identity


@virtually
async def test_somebody_elses_edit_is_no_loss_and_stays() -> None:
    store = Store()
    candidate = Candidate(store)
    candidate.start()
    await candidate.until_leading()
    assert store.lease is not None
    store.lease["metadata"]["labels"] = {"kept": "yes"}
    store.version += 1
    store.lease["metadata"]["resourceVersion"] = str(store.version)
    await asyncio.sleep(30)
    assert len(candidate.terms) == 1
    assert store.lease["metadata"]["labels"] == {"kept": "yes"}


@virtually
async def test_a_process_that_slept_stops_as_soon_as_it_wakes() -> None:
    store = Store()
    first, second = Candidate(store), Candidate(store)
    first.start()
    await first.until_leading()
    second.start()
    await asyncio.sleep(5)
    assert store.lease is not None
    version = store.lease["metadata"]["resourceVersion"]
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.now += 30  # SIGSTOP: the clock goes on, the loop doesn't
    store.patch({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "another"}})
    woke = now()
    await asyncio.sleep(0.1)
    assert first.terms[0][1] <= woke + 0.1


@virtually
async def test_work_that_fails_comes_out_and_leaves_the_lease_to_others() -> None:
    store = Store()
    candidate = Candidate(store)

    async def fail() -> None:
        await asyncio.sleep(1)
        raise ValueError("broken")

    candidate.start(fail)
    assert candidate.task
    with pytest.raises(ExceptionGroup) as error:
        await candidate.task
    assert error.group_contains(ValueError, match="broken")
    assert store.holder == ""
    assert not candidate.leadership.is_leading


@virtually
async def test_work_that_is_done_is_not_done_twice_in_a_term() -> None:
    done = []
    candidate = Candidate(Store())

    async def once() -> None:
        done.append(now())

    candidate.start(once)
    await asyncio.sleep(60)
    assert len(done) == 1
    assert candidate.leadership.is_leading


@virtually
async def test_a_stop_while_the_api_server_is_away_is_bounded() -> None:
    candidate = Candidate(Store())
    candidate.start()
    await candidate.until_leading()
    candidate.view.is_cut = True
    begun = now()
    await candidate.stop()
    assert now() - begun <= 3.1
    assert not candidate.leads


@virtually
async def test_the_work_has_ended_before_the_lease_is_given_back() -> None:
    store = Store()
    candidate = Candidate(store)
    holders: list[str] = []

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(2)
            holders.append(store.holder)

    candidate.start(slow_to_end)
    await asyncio.sleep(1)
    await candidate.stop()
    assert holders == [candidate.leadership.identity]
    assert store.holder == ""
