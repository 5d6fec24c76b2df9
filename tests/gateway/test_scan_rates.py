import pytest

from services.gateway import scan_rates
from services.gateway.scan_rates import Rate, ScanRates, parse_rate
from shared.errors import BadSetting


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_once_then_one_as_time_goes_by() -> None:
    clock = Clock()
    rates = ScanRates(Rate(3, 60), clock)
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]
    clock.now = 19
    assert not rates.take("a")
    clock.now = 20.5
    assert [rates.take("a") for _ in range(2)] == [True, False]
    clock.now = 10_000
    assert [rates.take("a") for _ in range(4)] == [True, True, True, False]


def test_one_namespace_costs_another_nothing() -> None:
    rates = ScanRates(Rate(1, 60), Clock())
    assert rates.take("flood")
    assert not rates.take("flood")
    assert rates.take("quiet")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_rates, "MAX_NAMESPACES", 2)
    rates = ScanRates(Rate(1, 60), Clock())
    for name in "abc":
        assert rates.take(name)
    assert not rates.take("c")
    assert not rates.take("b"), "as many as there may be are remembered"
    assert rates.take("a"), "forgotten, so its bucket is full again"


@pytest.mark.parametrize(
    ("text", "rate"), [("50/min", Rate(50, 60)), ("1/s", Rate(1, 1)), ("9/h", Rate(9, 3600))]
)
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    assert parse_rate("NAME", text) == rate


BAD_RATES = [
    "",
    "50",
    "/s",
    "50/m",
    "0/min",
    "-1/s",
    "x/min",
    "1.5/s",
    "50/min ",
    "50/mins",
    "\u0665/s",
    "9" * 5000 + "/s",
]


@pytest.mark.parametrize("text", BAD_RATES, ids=lambda text: ascii(text)[:12])
def test_a_bad_rate_names_the_setting_and_says_what_it_must_be(text: str) -> None:
    with pytest.raises(BadSetting) as caught:
        parse_rate("NAME", text)
    assert str(caught.value) == f"NAME is {text!r}: it must be a rate such as 50/min (s, min or h)"
