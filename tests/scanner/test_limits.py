"""The bound on calls at once, against servers that bear different things: closed loop, virtual clock, noise of a fixed seed.

A simulated server works on all calls in hand alike, as the recorded one did: each gets on at 1 / seconds(n).
"""

import random
from collections.abc import Callable, Iterator

import pytest

from deploy.dev.anchore.latency import recorded
from services.scanner import limits
from services.scanner.limits import START, CallLimit

Curve = Callable[[int], float]

NOISE = 0.15
"""Part of a call's work by which it varies."""

WORKERS = 16

SEEDS = 20


def sixteen(calls: int) -> float:
    """Sixteen workers, each 0.2 s a call."""
    return 0.2 * max(1.0, calls / WORKERS)


def serial(calls: int) -> float:
    """One after the other."""
    return 0.15 * calls


def sluggish(_: int) -> float:
    """Five seconds whatever is asked, and however much."""
    return 5.0


class Load:
    """Callers that always want more than they get, or `demand` at once."""

    def __init__(self, limit: CallLimit, curve: Curve, *, seed: int, demand: int = 10_000) -> None:
        self.limit, self.curve, self.demand = limit, curve, demand
        self.now = 100.0
        self.ends: list[float] = []
        """When calls were answered."""
        self._random = random.Random(seed)
        self._under_way: list[tuple[float, float]] = []
        """Work left, and when it began."""

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self._fill()
            self._under_way.sort(reverse=True)
            work, begun = self._under_way.pop()
            pace = self.curve(len(self._under_way) + 1)
            self.now += work * pace
            self._under_way = [(left - work, since) for left, since in self._under_way]
            self.ends.append(self.now)
            self.limit.ended(begun, self.now)

    def refuse_all(self, seconds: float = 0.01) -> None:
        """Whatever is in hand gets no answer."""
        self._fill()
        self.now += seconds
        lost, self._under_way = self._under_way, []
        for _, begun in lost:
            self.limit.refused(begun)

    def rate(self, since: float, until: float) -> float:
        """Answers a second between two times after the start."""
        return sum(100 + since <= end < 100 + until for end in self.ends) / (until - since)

    def _fill(self) -> None:
        while len(self._under_way) < min(self.limit.value, self.demand):
            work = self._random.uniform(1 - NOISE, 1 + NOISE)
            self._under_way.append((work, self.now))
            self.limit.begun(self.now, len(self._under_way))


def rate_of(limit: CallLimit, curve: Curve, *, seed: int) -> float:
    """Answers a second in the second half minute."""
    load = Load(limit, curve, seed=seed)
    load.run(60)
    return load.rate(30, 60)


def best(curve: Curve, maximum: int) -> float:
    return max(calls / curve(calls) for calls in range(1, maximum + 1))


def cases() -> Iterator[tuple[Curve, int, int]]:
    for curve in (recorded, sixteen, serial):
        for maximum in (8, 32):
            for start in (1, 4, 8, 16, 32):
                yield curve, maximum, start


@pytest.mark.parametrize(
    ("curve", "maximum", "start"),
    [*cases()],
    ids=lambda value: value if isinstance(value, int) else value.__name__,
)
def test_after_half_a_minute_little_is_lost(curve: Curve, maximum: int, start: int) -> None:
    best_there_is = best(curve, maximum)
    shares = sorted(
        rate_of(CallLimit(maximum, start), curve, seed=seed) / best_there_is for seed in range(SEEDS)
    )
    assert shares[0] >= 0.85
    assert shares[1] >= 0.9, "in one run of many the noise may be against it"


@pytest.mark.parametrize("maximum", [8, 32])
@pytest.mark.parametrize("start", [1, 4, 8, 32])
def test_a_server_that_is_slow_by_nature_is_not_asked_by_one_at_a_time_for_ever(
    maximum: int, start: int
) -> None:
    for seed in range(SEEDS):
        load = Load(CallLimit(maximum, start), sluggish, seed=seed)
        load.run(600)
        late = load.rate(500, 600) * sluggish(1)
        assert late >= 3, "calls at once, on average"


def test_a_server_that_becomes_slow_is_spared_and_found_again() -> None:
    for seed in range(SEEDS):
        load = Load(CallLimit(8), recorded, seed=seed)
        load.run(60)
        load.curve = lambda calls: 40 * recorded(calls)  # alone 6 s, four at once 10 s each
        load.run(40)
        assert load.limit.value <= 2, "within seconds, and as long as it lasts"
        load.run(200)
        load.curve = recorded
        load.run(60)
        assert load.rate(330, 360) >= 0.85 * best(recorded, 8)


def test_a_server_that_stays_slow_is_asked_by_more_again_as_it_bears_them() -> None:
    """What counts as slow is learnt anew from calls that are alone."""
    for seed in range(SEEDS):
        load = Load(CallLimit(8), recorded, seed=seed)
        load.run(60)
        load.curve = sluggish
        load.run(600)
        assert load.rate(560, 660) * sluggish(1) >= 3


def test_more_is_asked_once_the_server_has_grown() -> None:
    for seed in range(SEEDS):
        load = Load(CallLimit(32), serial, seed=seed)
        load.run(120)
        assert load.limit.value <= 3
        load.curve = sixteen
        load.run(240)
        assert load.rate(330, 360) >= 0.85 * best(sixteen, 32)


@pytest.mark.parametrize("demand", [1, 2, 3])
def test_little_to_do_tells_nothing_about_the_bound(demand: int) -> None:
    load = Load(CallLimit(8), recorded, seed=1, demand=demand)
    for _ in range(300):
        load.run(1)
        assert load.limit.value >= START


def test_after_a_quiet_time_the_bound_is_no_larger_than_what_was_tried() -> None:
    """A burst must not meet a bound that only an idle server was seen to bear."""
    load = Load(CallLimit(32), sixteen, seed=1)
    load.run(120)
    assert load.limit.value >= 12
    load.demand = 2
    load.run(20)
    assert load.limit.value == START


def test_a_burst_of_refusals_halves_once() -> None:
    load = Load(CallLimit(32, 16), sixteen, seed=1)
    load.refuse_all()
    assert load.limit.value == 8
    load.refuse_all()
    assert load.limit.value == 4
    for _ in range(5):
        load.refuse_all()
    assert load.limit.value == 1, "never less"
    load.run(60)
    assert load.rate(30, 60) >= 0.85 * best(sixteen, 32), "and found again"


def test_refusals_at_the_very_time_of_the_call_halve_once_as_well() -> None:
    """A loop's clock stands still for a millisecond: a refused connection takes less."""
    limit = CallLimit(32, 16)
    for number in range(16):
        limit.begun(100.0, number + 1)
    limit.refused(100.0)
    limit.begun(100.0, 16)
    for _ in range(15):
        limit.refused(100.0)
    assert limit.value >= 4


def test_one_slow_call_or_two_are_no_overload() -> None:
    limit = CallLimit(8)
    for number in range(2):
        limit.begun(100.0 + number, 1)
        limit.ended(100.0 + number, 100.0 + number + limits.SLOW + 0.1)
    assert limit.value == START
    limit.begun(103.0, 1)
    limit.ended(103.0, 106.0)
    assert limit.value == START // 2
