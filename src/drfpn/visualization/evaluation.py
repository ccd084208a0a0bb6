"""Figures of an evaluation: confusion matrix, precision-recall curves and error types."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from drfpn.evaluation.analysis import Analysis, APAnalysis
from drfpn.visualization.boxes import PALETTE
from drfpn.visualization.fonts import figure_name, save_figure

MAX_NAMED_CLASSES = 30
"""Number of classes up to which the confusion matrix shows names and counts."""


def save_evaluation_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Draw the confusion matrix, precision-recall curves and error types of an analysis.

    Args:
        analysis: analysis of the detections on a split.
        folder: folder of the figures, created if missing.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"confusion": _confusion(analysis)}
    for name, details in (("box", analysis.box), ("mask", analysis.mask)):
        if details is not None and details.curves is not None:
            figures[f"precision_recall_{name}"] = _precision_recall(details, name)
        if details is not None and details.errors is not None:
            figures[f"errors_{name}"] = _error_types(details, name)
    files = []
    for name, figure in figures.items():
        file = folder / f"{name}.png"
        save_figure(figure, file)
        files.append(file)
    return files


def _confusion(analysis: Analysis) -> Figure:
    counts = np.array(analysis.confusion, dtype=np.float64)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [*(figure_name(name, 24) for name in analysis.classes), "background"]
    side = min(max(4.5, 1.5 + 0.45 * len(names)), 14)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="fraction of the row", shrink=0.8)
    if len(names) <= MAX_NAMED_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if fractions[row, column] > 0.5 else "black"
            if count:
                axes.text(column, row, f"{count:.0f}", ha="center", va="center", fontsize=7, color=color)
    title = f"IoU 0.5, confidence threshold {analysis.confusion_score:g}"
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    return figure


def _precision_recall(details: APAnalysis, name: str) -> Figure:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    recall = np.linspace(0, 1, 101)
    for of_class in details.curves_per_class.values():
        axes.plot(recall, of_class.iou50, color="0.8", linewidth=0.7)
    assert details.curves is not None
    curves = {"IoU 0.5": details.curves.iou50, "IoU 0.75": details.curves.iou75, "mean": details.curves.mean}
    for color, (label, values) in zip(PALETTE, curves.items(), strict=False):
        axes.plot(recall, values, color=color, label=label)
    title = f"{name}: mean over classes; gray: each class, IoU 0.5"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01), title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _error_types(details: APAnalysis, name: str) -> Figure:
    assert details.errors is not None
    error_types = ["Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FP", "FN"]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    delta_ap = [100 * details.errors.delta_ap[error_type] for error_type in error_types]
    bars = axes.bar(error_types, delta_ap, color=PALETTE[0])
    axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set(ylabel="gain of AP50 if fixed, points", title=f"{name}: error types (TIDE)")
    return figure
