"""What is red alone as well fails the run; what is green alone is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import alone

ALWAYS = "def test_always() -> None:\n    assert False\n"
ONCE = """\
from pathlib import Path

def test_once() -> None:
    mark = Path("ran")
    is_first = not mark.exists()
    mark.touch()
    assert not is_first
"""
MANY = "import pytest\n\n@pytest.mark.parametrize('n', range(6))\ndef test_many(n: int) -> None:\n    assert n < 0\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, with none of ours' configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def first_run(project: Path, text: str) -> str:
    """The exit code of the tests that `text` has."""
    (project / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist"]
    return str(subprocess.run(command, check=False, capture_output=True).returncode)


def test_what_is_green_alone_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert alone.main([first_run(project, ONCE)]) == 0
    assert "GREEN ALONE; mend their patience:\n  test_it.py::test_once" in capsys.readouterr().out


def test_what_is_red_alone_fails(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert alone.main([first_run(project, ALWAYS + ONCE)]) == 1
    assert "GREEN ALONE" not in capsys.readouterr().out


def test_many_red_ones_are_not_tried_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert alone.main([first_run(project, MANY)]) == 1
    assert "6 tests are red" in capsys.readouterr().out


def test_what_is_no_red_test_stays_what_it_is(project: Path) -> None:
    assert alone.main([first_run(project, "import nothing_of_the_kind\n")]) == 2
