"""What counts as growth in a long run."""

import pytest

from tests.soak.flat import growth


def test_noise_around_a_level_is_flat() -> None:
    assert growth("gateway-0: RSS MiB", [100 + (number % 7) for number in range(60)]).is_flat


def test_warming_up_is_no_growth() -> None:
    assert growth("gateway-0: RSS MiB", [60.0] * 10 + [100.0] * 50).is_flat


@pytest.mark.parametrize(
    ("unit", "each"), [("RSS MiB", 0.5), ("descriptors", 1), ("tasks", 1), ("consumers", 0.1)]
)
def test_a_leak_is_growth(unit: str, each: float) -> None:
    found = growth(f"gateway-0: {unit}", [50 + each * number for number in range(60)])
    assert not found.is_flat
    assert found.late > found.early


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        growth("gateway-0: tasks", [1.0] * 7)


def test_a_unit_that_nobody_thought_of_is_said() -> None:
    with pytest.raises(ValueError, match="not known"):
        growth("gateway-0: dreams", [1.0] * 20)
