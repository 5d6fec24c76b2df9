"""Each bench still runs: at a tiny scale, one round, and nobody looks at its speed."""

import os
import shutil
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from deploy.dev.binaries import find
from deploy.dev.go import GoMissingError
from tests.bench import __main__ as bench
from tests.bench import about, figures, go_programs, restart
from tests.bench.figures import Figure, figure
from tests.bench.session import Session

ON_A_CLUSTER = ("apiserver", "audits", "weight")
WITH_LOAD = ("admission", "cores")

TARGETS = {
    "admission": 6,
    "apiserver": 4,
    "cold": 4,
    "scanner": 3,
    "audits": 1,
    "mirror": 4,
    "rules": 1,
    "weight": 6,
    "cores": 3,
    "restart": 0,
}


def _session(folder: Path) -> Session:
    return Session(
        folder=folder / "work",
        console=Console(quiet=True),
        results=folder / "results",
        rounds=1,
        seconds=1,
        scale=0.01,
    )


def _needed(name: str) -> None:
    """Skip where a program is missing; in CI that is a failure."""
    missing = "wrk (apt-get install wrk)" if name in WITH_LOAD and not shutil.which("wrk") else ""
    if name in ON_A_CLUSTER and find() is None:
        missing = "the control plane (python -m deploy.dev.binaries)"
    if name in ("admission", "apiserver"):
        try:
            go_programs.echo()
            go_programs.pods()
        except GoMissingError as error:
            missing = str(error)
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} is missing")
    if missing:
        pytest.skip(f"BENCH {name} IS NOT TRIED: {missing} is missing")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=[pytest.mark.long, *([pytest.mark.cluster] if each in ON_A_CLUSTER else [])])
        for each in bench.BENCHES
        if each != "restart"
    ],
)
async def test_a_bench_runs_and_keeps_its_figures(name: str, tmp_path: Path) -> None:
    _needed(name)
    session = _session(tmp_path)
    assert await bench.run([name], session) == 0
    latest = figures.read(session.results / figures.LATEST)
    assert len(latest) == TARGETS[name]
    assert all(each.name.startswith(f"{name}: ") and each.runs for each in latest)
    assert about.read(session.results).benches[name].scale == 0.01


async def test_the_restart_is_fed_with_what_was_measured(tmp_path: Path) -> None:
    session = _session(tmp_path)
    assert await bench.run(["restart"], session) == 1
    measured = [figure(restart.ADMISSION, "s", [0.4]), figure(restart.SCANS, "1/s", [150.0])]
    figures.keep(session.results, measured)
    assert await bench.run(["restart"], session) == 0
    known = figures.known(session.results)
    assert known["restart: warm, gateways needed"].value == 2
    assert (session.results / "performance-restart.png").exists()


async def test_a_bench_that_breaks_leaves_the_others_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: Session) -> list[Figure]:
        raise RuntimeError("no")

    async def sound(_: Session) -> list[Figure]:
        return [figure("sound: x", "s", [1.0])]

    monkeypatch.setattr(bench, "BENCHES", {"broken": broken, "sound": sound})
    session = _session(tmp_path)
    assert await bench.run(["broken", "sound"], session) == 1
    assert set(figures.known(session.results)) == {"sound: x"}


def test_an_unknown_bench_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["make bench", "admision"])
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert "no such bench: admision; there are admission, " in capsys.readouterr().err


def test_the_last_results_have_an_entry_a_target() -> None:
    """What other programs read: docs/performance.json has the same entries as bench-results/latest.json."""
    kept = msgspec.json.decode((Path(__file__).parents[2] / "docs/performance.json").read_bytes())
    with_target = [each for each in kept["figures"] if each["target"]]
    assert len(with_target) == sum(TARGETS.values())
