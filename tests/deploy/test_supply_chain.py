"""What the image is made of, as docs/licences.md and the bill of materials tell it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from deploy.dev import supply_chain
from deploy.dev.supply_chain import ALLOWED, bill, is_allowed, licence, packages, page


def test_every_package_has_a_licence_that_is_allowed() -> None:
    stated = {name: licence(name) for name in packages()}
    assert {name: each for name, each in stated.items() if not is_allowed(each)} == {}


def test_the_page_is_what_is_locked() -> None:
    assert supply_chain.LICENCES.read_text() == page(), "run `make licences`"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("GPL-3.0-only", False),
        ("not stated", False),
        ("", False),
    ],
)
def test_which_expressions_are_allowed(expression: str, *, expected: bool) -> None:
    assert is_allowed(expression) is expected
    assert "GPL-3.0-only" not in ALLOWED


def test_the_bill_holds_every_locked_package_and_nothing_of_the_tests() -> None:
    if not (shutil.which("uv") or (supply_chain.ROOT / ".cache/uv/bin/uv").exists()):
        pytest.skip("NO BILL OF MATERIALS: uv is not here")
    found = bill()
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.5")
    listed = {each["name"]: each for each in found["components"]}
    assert {name: each["version"] for name, each in listed.items()} == packages()
    for name, each in listed.items():
        assert each["purl"] == f"pkg:pypi/{name}@{each['version']}"
        assert each["licenses"]
        assert any("hashes" in reference for reference in each["externalReferences"]), name
    assert "pytest" not in listed


def _pip_audit(folder: Path, answer: Any) -> None:
    """One that gives this answer, whatever it is asked."""
    (folder / "bin").mkdir(parents=True)
    said = answer if isinstance(answer, str) else json.dumps({"dependencies": answer})
    program = folder / "bin" / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    program.chmod(0o755)


SKIPPED = {"name": "a", "skip_reason": "not found on PyPI and could not be audited"}
CLEAN = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": []}]}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ([CLEAN], 0, "1 packages, 0 known weaknesses"),
        ([CLEAN, WEAK], 1, "b 2: CVE-1 (fixed in: none yet)"),
        ([CLEAN, SKIPPED], 0, "NOT AUDITED"),
        ([], 0, "NOT AUDITED"),
        ("Traceback", 0, "NOT AUDITED"),
    ],
    ids=["clean", "weak", "skipped", "nothing", "no service"],
)
def test_what_could_not_be_asked_is_not_called_clean(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    answer: Any,
    code: int,
    said: str,
) -> None:
    _pip_audit(tmp_path, answer)
    monkeypatch.setattr(supply_chain, "TOOLS", tmp_path)
    monkeypatch.setattr(supply_chain, "_uv", lambda *_, **__: "")
    assert supply_chain.audit() == code
    out, err = capsys.readouterr()
    assert said in out + err
