"""docs/performance.md says what was measured: its tables and pictures are made of the figures that lie beside it."""

from pathlib import Path

import pytest

from tests.bench import page, plots
from tests.bench.about import About
from tests.bench.figures import at_least, figure
from tests.bench.page import Kept

MADE = Kept(
    about=About(machine="two cores", versions={"Python": "3.11"}),
    figures=[
        figure("admission: gateway / limit", "ratio", [0.5, 0.7, 0.6], at_least(0.6)),
        figure("mirror: 1,000, ready", "s", [0.25]),
        figure("admission: CPU per 1,000", "s", [0.4, 0.5], at_least(1)),
    ],
)


def test_the_page_is_what_was_measured() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.filled(text, page.tables(page.read_kept())), "run `make bench-page`"


def test_every_picture_is_there_and_shown() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for name in plots.PLOTS:
        assert f"images/performance-{name}.svg" in text
        assert (page.IMAGES / f"performance-{name}.svg").stat().st_size < 150_000


def test_every_plot_can_be_drawn_of_what_is_kept(tmp_path: Path) -> None:
    known = {each.name: each for each in page.read_kept().figures}
    drawn = plots.draw_all(known, tmp_path, "png")
    assert [path.name for path in drawn] == [f"performance-{name}.png" for name in plots.PLOTS]


def test_a_plot_without_its_figures_is_left_out(tmp_path: Path) -> None:
    assert plots.draw_all({}, tmp_path, "png") == []


def test_a_table_has_medians_spread_and_verdict() -> None:
    parts = page.tables(MADE)
    assert "| admission: gateway / limit | 0.6 | 0.5 … 0.7 | ≥ 0.6 | yes |" in parts["targets"]
    assert "| admission: CPU per 1,000 | 0.45 s | 0.4 … 0.5 | ≥ 1 | **no** |" in parts["targets"]
    assert "| mirror: 1,000, ready | 0.25 s |  |" in parts["reported-mirror"]
    assert "met" not in parts["reported-mirror"]


def test_a_part_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="machine"):
        page.filled("# a page without marks", {"machine": "two cores"})


def test_what_stands_outside_the_marks_is_left_alone() -> None:
    before = "by hand\n<!-- measured: x -->\nold\n<!-- /measured: x -->\nby hand, too\n"
    assert page.filled(before, {"x": "new"}) == before.replace("old", "new")
