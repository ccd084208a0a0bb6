"""Bar chart of AP by class, of one run or of several runs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from drfpn.visualization.boxes import PALETTE


def save_class_bars(runs: Mapping[str, Mapping[str, float]], file: Path) -> None:
    """Draw a bar for each class and run, with the best class of the first run at the top.

    Args:
        runs: AP by class of each run; fractions, negative where the data has no object of the class.
        file: the figure.
    """
    first = next(iter(runs.values()))
    names = sorted(first, key=lambda name: first[name])
    thickness = 0.8 / len(runs)
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(names) * max(1, 0.7 * len(runs))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, (run, ap) in enumerate(runs.items()):
        values = [100 * max(ap.get(name, 0.0), 0) for name in names]
        labels = [
            "no object" if ap.get(name, -1) < 0 else f"{value:.1f}" for name, value in zip(names, values, strict=True)
        ]
        y = np.arange(len(names)) - thickness * (i - (len(runs) - 1) / 2)
        bars = axes.barh(y, values, height=thickness, color=PALETTE[i % len(PALETTE)], label=run)
        axes.bar_label(bars, labels, fontsize=7, padding=2)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="AP, %", xlim=(0, 100))
    axes.margins(y=0.02)
    if len(runs) > 1:
        figure.legend(loc="outside upper left", frameon=False, ncols=2)
    figure.savefig(file, dpi=110)
