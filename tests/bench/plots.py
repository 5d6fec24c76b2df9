"""The figures as pictures: what a person wants to see before any table. A plot whose figures are not there is left out."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from tests.bench import cores, restart, simulation
from tests.bench.figures import Figure

Known = Mapping[str, Figure]

OURS, OTHERS, BOUND = "#2b6cb0", "#a0aec0", "#c05621"
"""Moorgate, what it is compared with, and limits."""

_DARK = "@media (prefers-color-scheme: dark) { svg { filter: invert(0.9) hue-rotate(180deg) } }"

_STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 9,
    "svg.fonttype": "none",  # text stays text: small, and sharp at every size
    "svg.hashsalt": "moorgate",
}


def draw_all(known: Known, folder: Path, form: str) -> list[Path]:
    """One file a plot, `performance-<name>.<form>`; gives those drawn."""
    drawn = []
    for name, draw in PLOTS.items():
        try:
            with mpl.rc_context(_STYLE):
                picture = draw(known)
                drawn.append(_save(picture, folder, name, form))
        except (KeyError, restart.MissingError):  # not measured yet
            continue
        finally:
            plt.close("all")
    return drawn


def _save(picture: Picture, folder: Path, name: str, form: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"performance-{name}.{form}"
    picture.savefig(path, dpi=110, metadata={"Date": None} if form == "svg" else None)
    if form == "svg":  # for whoever does not see it
        head, tag, rest = path.read_text(encoding="utf-8").partition(" <metadata>")
        titles = "; ".join(axis.get_title(loc="left") for axis in picture.axes)
        path.write_text(
            f"{head} <desc>{escape(titles)}</desc>\n <style>{_DARK}</style>\n{tag}{rest}", encoding="utf-8"
        )
    return path


def _admission(known: Known) -> Picture:
    sides = {
        "echo": "Go, net/http: echoes the uid",
        "limit": "the gateway's server, fixed answer",
        "limit-application": "aiohttp application, fixed answer",
        "gateway-memory": "Moorgate, no outbox",
        "gateway": "Moorgate, recorded in the outbox",
        "gateway-ack": "Moorgate, acknowledged by NATS",
    }
    picture, (left, right) = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
    names = list(reversed(sides))
    _bars(left, [known[f"admission: {name}, throughput"] for name in names], names)
    _bars(right, [known[f"admission: {name}, p99"] for name in names], names)
    left.set_yticks(range(len(names)), [sides[name] for name in names])
    left.set_title("admissions a second")
    right.set_title("p99 of latency, ms")
    return picture


def _bars(axis: Axes, found: list[Figure], names: list[str]) -> None:
    colours = [OURS if name.startswith("gateway") else OTHERS for name in names]
    values = [each.value for each in found]
    spread = [
        [each.value - min(each.runs) for each in found],
        [max(each.runs) - each.value for each in found],
    ]
    axis.barh(range(len(found)), values, xerr=spread, color=colours, ecolor="#4a5568", capsize=2)


def _apiserver(known: Known) -> Picture:
    picture, axes = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True, layout="constrained")
    sides = {
        "none": "no webhook",
        "do-nothing": "a webhook that does nothing (Go)",
        "moorgate": "Moorgate",
    }
    for axis, (mode, title) in zip(axes, {"dry run": "dry run", "for real": "for real"}.items(), strict=True):
        for place, side in enumerate(reversed(sides)):
            of = {name: known[f"apiserver: Pods {mode}, {side}, {name}"].value for name in ("p50", "p99")}
            colour = OURS if side == "moorgate" else OTHERS
            axis.plot([of["p50"], of["p99"]], [place, place], color=colour, linewidth=3, alpha=0.5)
            axis.plot([of["p50"]], [place], "o", color=colour, markersize=9)
            axis.plot([of["p99"]], [place], "|", color=colour, markersize=12)
        axis.set_yticks(range(len(sides)), list(reversed(sides.values())))
        axis.set_xlim(left=0)
        axis.set_ylim(-0.6, len(sides) - 0.4)
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(f"a Pod, {title}: p50 (dot) to p99, ms")
    return picture


def _mirror(known: Known) -> Picture:
    found = {
        int(name.split()[1].rstrip(",").replace(",", "")): name.rpartition(", ")[0]
        for name in known
        if name.startswith("mirror: ") and name.endswith(", ready")
    }
    if not found:
        raise KeyError("mirror")
    sizes = sorted(found)
    picture, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    for axis, what, title in zip(
        axes,
        ("ready", "RSS", "p99 of a lookup"),
        ("seconds until complete", "memory, MB", "p99 of a lookup, µs"),
        strict=True,
    ):
        values = [known[f"{found[size]}, {what}"].value for size in sizes]
        axis.plot(sizes, values, "o-", color=OURS)
        axis.set_xscale("log")
        axis.set_title(title)
        axis.set_xlabel("verdicts")
        axis.grid(alpha=0.3)
        if what == "p99 of a lookup":
            axis.set_ylim(0, 2 * max(values))
        else:
            axis.set_yscale("log")
    return picture


def _cores(known: Known) -> Picture:
    counts = list(range(1, cores.SCANNERS + 1))
    found = [known[f"cores: verdicts of {count} scanners"] for count in counts]
    picture, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    left.plot(counts, [min(cores.ANCHORE, count * cores.ALONE) for count in counts], "--", color=BOUND)
    left.plot(counts, [each.value for each in found], "o-", color=OURS)
    left.set_xticks(counts)
    left.set_ylim(bottom=0)
    left.set_title("verdicts a second; dashed: what Anchore allows")
    left.set_xlabel("scanners on one queue")
    pair = [
        known["cores: one gateway with its load on one core"],
        known["cores: two gateways with their loads on two cores"],
    ]
    right.bar([1, 2], [each.value for each in pair], color=OURS, width=0.5)
    right.plot([0.6, 2.4], [pair[0].value * 0.6, pair[0].value * 2.4], "--", color=BOUND)
    right.set_xticks([1, 2], ["one core", "two cores"])
    right.set_title("admissions a second, load on the same cores")
    for axis in (left, right):
        axis.grid(axis="y", alpha=0.3)
    return picture


def _restart(known: Known) -> Picture:
    picture, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    styles = ("-", "--", ":")
    for (name, case), style in zip(restart.cases(known).items(), styles, strict=True):
        course = simulation.run(case).course
        seconds = [second for second, *_ in course]
        left.plot(seconds, [pods / 1000 for _, pods, *_ in course], style, color=OURS, label=name)
        if math.isfinite(case.known) and case.known < 1:
            right.plot(seconds, [images for *_, images in course], style, color=OURS, label=name)
    left.set_title("thousands of Pods let in")
    right.set_title("images waiting for a scan")
    for axis in (left, right):
        axis.set_xlabel("seconds since the restart began")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    return picture


PLOTS: dict[str, Callable[[Known], Picture]] = {
    "admission": _admission,
    "apiserver": _apiserver,
    "mirror": _mirror,
    "cores": _cores,
    "restart": _restart,
}
