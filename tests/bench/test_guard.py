"""The guard: what it compares, when it fails, and that machines of another speed change nothing."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tests.bench import about, figures, guard
from tests.bench.figures import Figure, figure
from tests.bench.guard import Kept
from tests.bench.session import Session

CPU = "admission: CPU per 1,000"


def _units(kept: list[Kept]) -> dict[str, float]:
    return {each.name: each.units for each in kept}


def test_only_cpu_is_guarded_and_in_units_of_work() -> None:
    found = [
        figure(CPU, "s", [0.3]),
        figure("scanner: CPU a verdict", "ms", [1.5]),
        figure("admission: CPU / limit's", "ratio", [2.0]),
        figure("admission: limit-application, CPU per 1,000", "s", [0.1]),
        figure("admission: echo, CPU per 1,000", "s", [0.1]),
        figure("admission: gateway, throughput", "1/s", [2000.0]),
    ]
    expected = {CPU: 3.0, "scanner: CPU a verdict": 0.015}
    assert _units(guard.in_units(found, 0.1)) == pytest.approx(expected)


@pytest.mark.parametrize(("now", "is_regression"), [(1.19, False), (1.21, True), (0.5, False)])
def test_a_rise_of_more_than_a_fifth_is_a_regression(now: float, *, is_regression: bool) -> None:
    [change] = guard.compare([Kept(name=CPU, units=1.0)], [Kept(name=CPU, units=now)])
    assert change.is_regression is is_regression


def test_what_is_new_is_no_regression_and_what_is_gone_is_named() -> None:
    then, now = [Kept(name="old", units=1.0)], [Kept(name="new", units=9.0)]
    [change] = guard.compare(then, now)
    assert not change.is_regression
    assert guard.missing(then, now) == ["old"]


@pytest.mark.parametrize(("units", "code"), [(1.0, 0), (1.5, 1), (None, 1)])
def test_its_exit_code_says_it(
    units: float | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded = tmp_path / "recorded.json"
    recorded.write_bytes(msgspec.json.encode([Kept(name=CPU, units=1.0)]))

    async def measure(_: Session, __: Sequence[str] = ()) -> list[Kept]:
        return [] if units is None else [Kept(name=CPU, units=units)]

    monkeypatch.setattr(guard, "RECORDED", recorded)
    monkeypatch.setattr(guard, "measure", measure)
    monkeypatch.setattr("sys.argv", ["guard"])
    assert guard.main() == code


def test_what_is_recorded_can_be_read_and_guards_every_bench() -> None:
    kept = msgspec.json.decode(guard.RECORDED.read_bytes(), type=list[Kept])
    benches = {each.name.partition(":")[0] for each in kept}
    assert benches == set(guard.BENCHES)
    assert all(each.units > 0 for each in kept)


def test_what_make_bench_has_kept_can_be_recorded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guard, "RECORDED", tmp_path / "recorded.json")
    monkeypatch.setattr(guard, "BENCHES", {"admission": guard.BENCHES["admission"]})
    monkeypatch.setattr("sys.argv", ["guard", "--record", f"--results={tmp_path}"])
    assert guard.main() == 1
    assert "make bench BENCH=admission" in capsys.readouterr().out
    session = Session(folder=tmp_path, console=Console(quiet=True), results=tmp_path)
    session.paces = [0.1, 0.3, 0.2]
    figures.keep(tmp_path, [figure(CPU, "s", [0.4]), figure("cores: CPU of one", "s", [0.4])])
    about.keep(tmp_path, "admission", session)
    assert guard.main() == 0
    kept = msgspec.json.decode(guard.RECORDED.read_bytes(), type=list[Kept])
    assert _units(kept) == pytest.approx({CPU: 2.0})


async def test_a_bench_is_weighed_by_the_work_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def bench(_: Session) -> list[Figure]:
        return [figure(CPU, "s", [0.4])]

    monkeypatch.setattr(guard, "BENCHES", {"admission": bench})
    monkeypatch.setattr(guard, "unit_of_work", lambda: 0.2)
    session = Session(folder=tmp_path, console=Console(quiet=True), results=tmp_path)
    assert _units(await guard.measure(session)) == pytest.approx({CPU: 2.0})


def test_a_bench_that_looks_worse_is_measured_again_and_the_lower_figure_counts() -> None:
    then = [Kept(name="rules: a", units=1.0), Kept(name="audits: b", units=1.0)]
    once = [Kept(name="rules: a", units=1.3), Kept(name="audits: b", units=1.1)]
    assert guard.suspects(guard.compare(then, once)) == ["rules"]
    for second, is_worse in ((1.1, False), (1.25, True)):
        now = guard.lower(once, [Kept(name="rules: a", units=second)])
        assert [each.is_regression for each in guard.compare(then, now)] == [is_worse, False]
