"""Training curves: losses and AP over epochs, of one run or of several runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from drfpn.visualization.boxes import PALETTE
from drfpn.visualization.fonts import save_figure, write_legend


def save_training_curves(log: Path, file: Path) -> None:
    """Draw the loss and its terms of a run, beside AP and AP50.

    Args:
        log: ``log.jsonl`` of the run.
        file: the figure.
    """
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line]
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss_axes, ap_axes = figure.subplots(1, 2)
    keys = list(rows[0])
    terms = keys[keys.index("loss") : keys.index("AP") if "AP" in keys else len(keys)]
    for color, key in zip(PALETTE[::-1], terms, strict=False):
        loss_axes.plot(epochs, [row[key] for row in rows], color=color, marker="o", markersize=3, label=key)
    loss_axes.set(xlabel="epoch", ylabel="mean training loss", ylim=(0, None))
    for color, key in zip(PALETTE, ("AP", "AP50", "mask_AP"), strict=False):
        evaluated = [row for row in rows if row.get(key) is not None]
        if not evaluated:
            continue
        values = [100 * row[key] for row in evaluated]
        ap_axes.plot([row["epoch"] for row in evaluated], values, color=color, marker="o", markersize=3, label=key)
    ap_axes.set(xlabel="epoch", ylabel="AP on the validation split, %", ylim=(0, 100))
    for axes in (loss_axes, ap_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    save_figure(figure, file)


def save_compared_training_curves(logs: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> None:
    """Draw the losses of several runs, beside their AP.

    Args:
        logs: rows of ``log.jsonl`` of each run, by name of the run.
        file: the figure.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    loss_axes, ap_axes = figure.subplots(1, 2)
    for i, rows in enumerate(logs.values()):
        style: dict[str, Any] = {"color": PALETTE[i % len(PALETTE)], "marker": "o", "markersize": 3}
        loss_axes.plot([row["epoch"] for row in rows], [row["loss"] for row in rows], label=f"run {i}", **style)
        evaluated = [row for row in rows if row.get("AP") is not None]
        ap_axes.plot([row["epoch"] for row in evaluated], [100 * row["AP"] for row in evaluated], **style)
    loss_axes.set(xlabel="epoch", ylabel="mean training loss", ylim=(0, None))
    ap_axes.set(xlabel="epoch", ylabel="AP on the validation split, %", ylim=(0, None))
    for axes in (loss_axes, ap_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    write_legend(figure.legend(loc="outside upper left", frameon=False, ncols=2), logs)
    save_figure(figure, file)
