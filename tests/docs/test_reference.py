"""docs/reference is what the code makes of it, and leaves nothing out."""

from pathlib import Path

import pytest

from deploy.dev.reference import __main__ as reference
from deploy.dev.reference import metrics, settings
from deploy.dev.reference.markdown import cell, table
from shared import releases
from shared.setting_texts import TEXTS
from shared.settings import KNOWN

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", reference.files(), ids=lambda path: path.name)
def test_the_page_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == reference.files()[path], "run `make docs`"


def test_every_setting_is_told_of_and_asked_for() -> None:
    assert set(TEXTS) == KNOWN, "shared/setting_texts.py says what each setting is for"
    assert not settings.missing(), "no reader in deploy/dev/reference/settings.py was seen to ask for these"
    page = settings.page()
    assert {name for name in KNOWN if f"| `{name}`" in page} == KNOWN


def test_a_setting_is_told_as_it_is_read() -> None:
    page = settings.page()
    assert "| `MOORGATE_MAX_WAIT` | duration | `3s` |" in page
    assert "| `MOORGATE_PENDING_LIMIT` | duration, at most 50 min | `30m` |" in page
    assert "| `MOORGATE_TLS_ISSUER` | `file`, `self` | `file` |" in page
    assert "| `MOORGATE_PATH_SECRET`, or `MOORGATE_PATH_SECRET_FILE` | secret |" in page


def test_another_default_in_the_code_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "DEFAULT_LABELS", "other")
    assert "| `MOORGATE_RELEASE_LABELS` † | words with commas | `other` |" in settings.page()


def test_every_metric_of_the_code_is_told_of() -> None:
    """A metric made outside the classes that the page is made of would be missing there."""
    named = {
        name
        for folder in ("services", "shared")
        for file in (ROOT / folder).rglob("*metrics.py")
        for name in metrics.NAME.findall(file.read_text(encoding="utf-8"))
    }
    page = metrics.page()
    assert named
    assert not {name for name in named if f"`{name}`" not in page and f"`{name}_info`" not in page}


def test_what_is_in_a_cell_stays_there() -> None:
    assert cell("a | b\n <x> `<y>`") == "a \\| b \\<x> `<y>`"
    assert table(("a", "b"), [("1", "")]) == "| a | b |\n| --- | --- |\n| 1 | |"
