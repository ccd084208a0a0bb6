"""Pictures of an evaluation: confusion matrix, precision-recall curves and kinds of error."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from drfpn.visualization.boxes import PALETTE

if TYPE_CHECKING:
    from drfpn.evaluation.analysis import Analysis, Details

NAMED = 30
"""Classes up to which the confusion matrix has names and numbers."""


def save_evaluation(analysis: "Analysis", folder: Path) -> list[Path]:
    """Draw an analysis into ``folder`` and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"confusion": _confusion(analysis)}
    for kind, details in (("box", analysis.box), ("mask", analysis.mask)):
        if details is not None and details.curves is not None:
            figures[f"precision_recall_{kind}"] = _curves(details, kind)
        if details is not None and details.errors is not None:
            figures[f"errors_{kind}"] = _errors(details, kind)
    files = []
    for name, figure in figures.items():
        FigureCanvasAgg(figure)
        file = folder / f"{name}.png"
        figure.savefig(file, dpi=110)
        files.append(file)
    return files


def _confusion(analysis: "Analysis") -> Figure:
    counts = np.array(analysis.confusion, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [*analysis.classes, "background"]
    side = min(max(4.5, 1.5 + 0.45 * len(names)), 14)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, label="share of the row", shrink=0.8)
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            if count:
                axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set(xlabel="found", ylabel="truth", title=f"IoU 0.5, score from {analysis.confusion_score:g} on")
    return figure


def _curves(details: "Details", kind: str) -> Figure:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    recall = np.linspace(0, 1, 101)
    for of_class in details.curves_per_class.values():
        axes.plot(recall, of_class.iou50, color="0.8", linewidth=0.7)
    assert details.curves is not None
    curves = {"IoU 0.5": details.curves.iou50, "IoU 0.75": details.curves.iou75, "mean": details.curves.mean}
    for colour, (label, values) in zip(PALETTE, curves.items(), strict=False):
        axes.plot(recall, values, color=colour, label=label)
    title = f"{kind}: mean over classes; grey: each class, IoU 0.5"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01), title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _errors(details: "Details", kind: str) -> Figure:
    assert details.errors is not None
    names = ["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN"]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(names, [100 * details.errors.delta_ap[name] for name in names], color=PALETTE[0])
    axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set(ylabel="AP50 to be won, points", title=f"{kind}: kinds of error")
    return figure
