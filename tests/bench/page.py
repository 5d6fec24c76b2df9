"""`make bench-page`: docs/performance.md and its pictures from what was measured last.

What is written by hand stands outside the marks, what is measured between them. docs/performance.json keeps the figures
that the page was made of, so that a test can hold the page to them: nobody corrects a figure by hand.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from deploy.dev.services import ROOT
from tests.bench import about, figures, plots
from tests.bench.__main__ import BENCHES, RESULTS
from tests.bench.about import About
from tests.bench.figures import Figure

PAGE, KEPT, IMAGES = (
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "performance.json",
    ROOT / "docs" / "images",
)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the page is made of."""

    about: About
    figures: list[Figure]


def tables(kept: Kept) -> dict[str, str]:
    """The measured parts of the page, by their marks."""
    targets = [each for each in kept.figures if each.target is not None]
    rest = [each for each in kept.figures if each.target is None]
    return {
        "machine": _machine(kept.about),
        "targets": _table(targets),
        **{
            f"reported-{bench}": _table([each for each in rest if _bench(each) == bench]) for bench in BENCHES
        },
    }


def filled(page: str, parts: dict[str, str]) -> str:
    """The page with each part between its marks. Raises `ValueError` for a part that the page has no marks for."""
    for name, text in parts.items():
        begin, end = f"<!-- measured: {name} -->", f"<!-- /measured: {name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the page has no {begin} … {end}")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def is_of_another_copy(each: Figure) -> bool:
    """Of `--against`: the page is about this one."""
    return each.name.startswith("admission: other, ") or each.name.endswith(" / the other copy's")


def read_kept() -> Kept:
    """The figures of the page."""
    return msgspec.json.decode(KEPT.read_bytes(), type=Kept)


def main() -> int:
    """0: written; 1: something has not been measured, or only at a small scale."""
    parser = argparse.ArgumentParser(prog="make bench-page")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--kept", action="store_true", help="from docs/performance.json as it is")
    given = parser.parse_args()
    if not given.kept:
        found = about.read(given.results)
        for bench in BENCHES:
            measured = found.benches.get(bench)
            if measured is None or measured.scale < 1:
                sys.stderr.write(f"{bench} has not been measured in full: run `make bench BENCH={bench}`\n")
                return 1
        known = figures.known(given.results).values()
        kept = Kept(about=found, figures=[each for each in known if not is_of_another_copy(each)])
        KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    kept = read_kept()
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), tables(kept)), encoding="utf-8")
    plots.draw_all({each.name: each for each in kept.figures}, IMAGES, "svg")
    return 0


def _machine(found: About) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    days = " to ".join(sorted({each.day for each in found.benches.values()}))
    return f"{found.machine}; {versions}. Measured {days}."


def _table(found: Sequence[Figure]) -> str:
    """Markdown; the last columns only where there are targets."""
    has_targets = any(each.target for each in found)
    head = ["figure", "median", "lowest … highest", *(["target", "met"] if has_targets else [])]
    rows = [head, ["---"] * len(head)]
    for each in sorted(found, key=_place):
        unit = f" {each.unit}" if each.unit not in ("", "ratio") else ""
        spread = f"{min(each.runs):g} … {max(each.runs):g}" if len(each.runs) > 1 else ""
        verdict = [each.target or "", {True: "yes", False: "**no**", None: ""}[each.met]]
        rows.append([each.name, f"{each.value:g}{unit}", spread, *(verdict if has_targets else [])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _place(each: Figure) -> int:
    return list(BENCHES).index(_bench(each))


def _bench(each: Figure) -> str:
    return each.name.partition(":")[0]


if __name__ == "__main__":
    sys.exit(main())
