"""The series as pictures: one panel a unit, all processes in it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

Series = Mapping[str, Sequence[tuple[float, float]]]


def draw(series: Series, path: Path) -> None:
    """A PNG of everything."""
    panels: dict[str, list[str]] = defaultdict(list)
    for name in sorted(series):
        panels[name.rpartition(": ")[2]].append(name)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(11, 2.6 * len(panels)), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, (unit, names) in zip(axes[:, 0], panels.items(), strict=True):
        for name in names:
            minutes = [seconds / 60 for seconds, _ in series[name]]
            axis.plot(
                minutes, [value for _, value in series[name]], label=name.rpartition(": ")[0], linewidth=1.2
            )
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes[-1, 0].set_xlabel("minutes")
    figure.savefig(path, dpi=110)
    plt.close(figure)
