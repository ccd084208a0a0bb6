"""Bar chart of AP by class, of one run or of several runs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from drfpn.utils.formatting import percent
from drfpn.visualization.boxes import PALETTE
from drfpn.visualization.fonts import figure_name, save_figure, write_legend


def save_class_bars(runs: Mapping[str, Mapping[str, float | None]], file: Path) -> None:
    """Draw a bar for each class and run, with the best class of the first run at the top.

    Args:
        runs: AP by class of each run; fractions, ``None`` where the data has no object of the class.
        file: the figure.
    """
    first = next(iter(runs.values()))
    names = sorted(first, key=lambda name: first[name] or 0.0)
    thickness = 0.8 / len(runs)
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(names) * max(1, 0.7 * len(runs))), layout="constrained")
    axes = figure.subplots()
    for i, ap in enumerate(runs.values()):
        values = [100 * (ap.get(name) or 0.0) for name in names]
        labels = ["no object" if ap.get(name) is None else percent(ap[name]) for name in names]
        y = np.arange(len(names)) - thickness * (i - (len(runs) - 1) / 2)
        bars = axes.barh(y, values, height=thickness, color=PALETTE[i % len(PALETTE)], label=f"run {i}")
        axes.bar_label(bars, labels, fontsize=7, padding=2)
    axes.set_yticks(range(len(names)), [figure_name(name, 40) for name in names])
    axes.set(xlabel="AP, %", xlim=(0, 100))
    axes.margins(y=0.02)
    if len(runs) > 1:
        write_legend(figure.legend(loc="outside upper left", frameon=False, ncols=2), runs)
    save_figure(figure, file)
