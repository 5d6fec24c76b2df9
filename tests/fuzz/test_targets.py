"""Every target meets its seeds, all that has ever found something, and damaged seeds; none may raise or take long."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import seeds, targets
from tests.fuzz.mutations import damaged

INPUTS = 150
"""A target and test run; the same ones each time, so that a red test is red again."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Refusals are logged by the thousand."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    targets.close()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds(name: str) -> None:
    for seed in seeds.of(name):
        targets.TARGETS[name](seed)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_damaged_seeds(name: str) -> None:
    @settings(
        max_examples=INPUTS,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(seeds.of(name)))
    def none_raises(data: bytes) -> None:
        targets.TARGETS[name](data)

    none_raises()


@given(st.data())
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_mutations_differ(data: st.DataObject) -> None:
    """A strategy that only gave its seeds back would find nothing."""
    seed = b"one seed that is long enough to be hurt"
    assert data.draw(st.lists(damaged([seed]), min_size=5, max_size=5)) != [seed] * 5
