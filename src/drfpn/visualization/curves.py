"""Curves over epochs: losses and AP of a run, or of several beside each other."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from drfpn.visualization.boxes import PALETTE


def save_curves(log: Path, picture: Path) -> None:
    """Draw ``log.jsonl`` of a run: the loss and its terms beside AP and AP50."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, precision = figure.subplots(1, 2)
    keys = list(rows[0])
    terms = keys[keys.index("loss") : keys.index("AP") if "AP" in keys else len(keys)]
    for colour, key in zip(PALETTE[::-1], terms, strict=False):
        losses.plot(epochs, [row[key] for row in rows], color=colour, marker="o", markersize=3, label=key)
    losses.set(xlabel="epoch", ylabel="mean training loss", ylim=(0, None))
    for colour, key in zip(PALETTE, ("AP", "AP50", "mask_AP"), strict=False):
        measured = [row for row in rows if key in row]
        if not measured:
            continue
        values = [100 * row[key] for row in measured]
        precision.plot([row["epoch"] for row in measured], values, color=colour, marker="o", markersize=3, label=key)
    precision.set(xlabel="epoch", ylabel="AP on the validation split, %", ylim=(0, 100))
    for axes in (losses, precision):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(picture, dpi=110)


def save_compared_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]], picture: Path) -> None:
    """Draw the losses of several runs beside their AP.

    Args:
        logs: by name of the run: the rows of its ``log.jsonl``.
        picture: the file.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, precision = figure.subplots(1, 2)
    for i, (name, rows) in enumerate(logs.items()):
        style: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)], "marker": "o", "markersize": 3}
        losses.plot([row["epoch"] for row in rows], [row["loss"] for row in rows], label=name, **style)
        measured = [row for row in rows if "AP" in row]
        precision.plot([row["epoch"] for row in measured], [100 * row["AP"] for row in measured], **style)
    losses.set(xlabel="epoch", ylabel="mean training loss", ylim=(0, None))
    precision.set(xlabel="epoch", ylabel="AP on the validation split, %", ylim=(0, None))
    for axes in (losses, precision):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.legend(loc="outside upper left", frameon=False, ncols=2)
    figure.savefig(picture, dpi=110)
