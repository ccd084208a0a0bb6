"""Pictures of what flows inside of a pyramid: features, offsets, weights and gates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from drfpn.visualization.boxes import PALETTE
from drfpn.visualization.diagnostics import pair_name
from drfpn.visualization.hooks import Inspection

Picture = Path | BinaryIO
"""Where a picture goes: a file by name, or one open for writing."""
ARROWS = 24
"""Across the wider side of an arrow field."""
PANEL = 3.0
"""Width of a panel, inches."""


def most_active(found: Inspection, level: int, number: int) -> list[int]:
    """Return the channels that vary most over the pixels of a merged level, first the most active."""
    varies = found.merged[level].flatten(1).std(dim=1)
    return [int(channel) for channel in varies.argsort(descending=True)[:number]]


def pick(m: Tensor, channel: int | None) -> Tensor:
    """Return a channel (H, W) of a map (C, H, W), or the mean over channels for ``None``."""
    return m.mean(0) if channel is None else m[channel]


def draw_features_before(found: Inspection, level: int, channels: Sequence[int | None], file: Picture) -> None:
    """Draw channels of two adjacent levels before they are merged (Figure 1); a row has one scale.

    Args:
        found: inner values of a pyramid.
        level: index of the finer level.
        channels: numbers, or ``None`` for the mean.
        file: the picture.
    """
    columns = {found.levels[i]: found.laterals[i] for i in (level, level + 1)}
    _grid(columns, channels, {}, f"Before merging: laterals of {pair_name(found, level)}", file)


def draw_features_after(
    runs: Mapping[str, Inspection],
    level: int,
    channels: Sequence[int | None],
    detections: Mapping[str, Image.Image],
    file: Picture,
) -> None:
    """Draw the same channels of a merged level for several runs (Figure 5), and what they detect; a row has one scale.

    Args:
        runs: inner values by name.
        level: index of the level.
        channels: numbers, or ``None`` for the mean.
        detections: pictures by name.
        file: the picture.
    """
    name = next(iter(runs.values())).levels[level].replace("C", "level ")
    _grid({run: found.merged[level] for run, found in runs.items()}, channels, detections, f"Merged, {name}", file)


def draw_levels(runs: Mapping[str, Inspection], file: Picture, *, mean: bool) -> None:
    """Draw every merged level of several runs: a row for each run, a column for each level with one scale.

    Args:
        runs: inner values by name.
        file: the picture.
        mean: draw the mean over channels, else the channel of each map that varies most over its pixels.
    """
    levels = sorted({level for found in runs.values() for level in found.levels})
    height, width = next(iter(runs.values())).merged[0].shape[-2:]
    size = (PANEL * len(levels) + 0.6, (PANEL * height / width + 0.45) * len(runs) + 1.4)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(runs), len(levels), squeeze=False)
    for column, level in enumerate(levels):
        shown = {}
        for row, found in enumerate(runs.values()):
            axes[row, column].set(xticks=[], yticks=[])
            if level in found.levels:
                i = found.levels.index(level)
                channel = None if mean else most_active(found, i, 1)[0]
                shown[row] = (pick(found.merged[i], channel), channel)
        low = min(float(m.min()) for m, _ in shown.values())
        high = max(float(m.max()) for m, _ in shown.values())
        for row, (m, channel) in shown.items():
            place = axes[row, column]
            drawn = place.imshow(m.numpy(), cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
            about = f"{m.shape[-1]} x {m.shape[-2]}" + ("" if mean else f", channel {channel}")
            place.set_title(f"{level.replace('C', 'level ')}: {about}", fontsize=9)
        figure.colorbar(drawn, ax=list(axes[:, column]), label="activation", orientation="horizontal", shrink=0.8)
    for row, name in zip(axes[:, 0], runs, strict=True):
        row.set_ylabel(name, fontsize=9)
    figure.suptitle("Levels as they leave the pyramid: " + ("mean of all channels" if mean else "most active channel"))
    figure.savefig(file, dpi=110)


def _grid(
    columns: Mapping[str, Tensor],
    channels: Sequence[int | None],
    last: Mapping[str, Image.Image],
    title: str,
    file: Picture,
) -> None:
    rows = len(channels) + bool(last)
    shape = next(iter(columns.values())).shape
    height = PANEL * shape[-2] / shape[-1]
    figure = Figure(figsize=(PANEL * len(columns) + 1.4, (height + 0.35) * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for row, channel in zip(axes, channels, strict=False):
        maps = [pick(m, channel) for m in columns.values()]
        low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
        for place, m in zip(row, maps, strict=True):
            picture = place.imshow(m.numpy(), cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
        row[0].set_ylabel("mean of all" if channel is None else f"channel {channel}")
        figure.colorbar(picture, ax=list(row), label="activation", shrink=0.9, pad=0.01)
    for place, detected in zip(axes[-1], last.values(), strict=False):
        place.imshow(np.asarray(detected))
        if place is axes[-1][0]:
            place.set_ylabel("found")
    for place, name in zip(axes[0], columns, strict=True):
        place.set_title(name, fontsize=10)
    for place in axes.flat:
        place.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=110)


def draw_offsets(found: Inspection, image: Tensor, file: Picture) -> None:
    """Draw SRB's offsets as arrows and as their size in pixels, and its weight omega, a row for each pair of levels.

    Args:
        found: inner values of a pyramid with offsets or weights.
        image: uint8 (3, H, W).
        file: the picture.
    """
    pairs = sorted(set(found.offsets) | set(found.weights))
    ground = image.permute(1, 2, 0).float().mean(dim=2).numpy()
    height = PANEL * image.shape[-2] / image.shape[-1]
    figure = Figure(figsize=(3 * PANEL + 2.6, (height + 0.45) * len(pairs) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(pairs), 3, squeeze=False)
    extent = (0, image.shape[-1], image.shape[-2], 0)
    shown: dict[str, Any] = {"extent": extent, "interpolation": "nearest"}
    for row, i in zip(axes, pairs, strict=True):
        for place in row:
            place.imshow(ground, cmap="gray", extent=extent, vmin=0, vmax=255, alpha=0.6)
            place.set(xticks=[], yticks=[])
        row[0].set_ylabel(pair_name(found, i))
        if i in found.offsets:
            _arrows(row[0], found.offsets[i], image.shape[-2:])
            moved = found.offsets[i].norm(dim=0).numpy()
            picture = row[1].imshow(
                moved, cmap="viridis", vmin=0, vmax=max(float(moved.max()), 1e-6), alpha=0.8, **shown
            )
            figure.colorbar(picture, ax=row[1], label="pixels", shrink=0.9)
        else:
            row[0].set_title("no offsets", fontsize=9)
        if i in found.weights:
            weight = found.weights[i].numpy()
            limit = max(float(np.abs(weight).max()), 1e-6)
            picture = row[2].imshow(weight, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.8, **shown)
            figure.colorbar(picture, ax=row[2], label="omega", shrink=0.9)
    for place, title in zip(
        axes[0], ("where samples are taken", "how far they are moved", "their weight"), strict=True
    ):
        place.set_title(title, fontsize=10)
    figure.savefig(file, dpi=110)


def _arrows(axes: Any, offset: Tensor, size: Sequence[int]) -> None:
    """Draw arrows from pixels to where they sample; the longest as long as the arrows are apart."""
    height, width = offset.shape[-2:]
    step = max(1, round(max(height, width) / ARROWS))
    rows, columns = np.arange(step // 2, height, step), np.arange(step // 2, width, step)
    x, y = np.meshgrid((columns + 0.5) * size[1] / width, (rows + 0.5) * size[0] / height)
    dx, dy = (offset[k][rows[:, None], columns[None]].numpy() for k in (0, 1))
    longest = float(np.hypot(dx, dy).max())
    apart = step * size[1] / width
    scale = apart / longest if longest > 0 else 1.0
    axes.quiver(x, y, dx * scale, dy * scale, angles="xy", scale_units="xy", scale=1, color=PALETTE[4], width=0.004)
    axes.set_xlabel(f"longest arrow: {longest:.2f} pixels of the level", fontsize=8)


def draw_gates(found: Sequence[Inspection], file: Picture) -> None:
    """Draw CRB's gates, sorted over channels, a panel for each pair; over many images with their spread.

    Args:
        found: inner values of a pyramid, of an image each.
        file: the picture.
    """
    pairs = sorted(found[0].gates)
    figure = Figure(figsize=(PANEL * 1.1 * len(pairs) + 0.6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(pairs), squeeze=False, sharey=True)[0]
    for place, i in zip(axes, pairs, strict=True):
        gates = torch.stack([one.gates[i] for one in found])  # (images, C)
        order = gates.mean(0).argsort(descending=True)
        mean = gates.mean(0)[order].numpy()
        channel = np.arange(len(mean))
        place.axhline(1, color="0.7", linewidth=1)
        place.plot(channel, mean, color=PALETTE[0])
        if len(found) > 1:
            spread = gates.std(0)[order].numpy()
            place.fill_between(channel, mean - spread, mean + spread, color=PALETTE[0], alpha=0.25, linewidth=0)
        place.set(xlabel="channels, sorted", title=pair_name(found[0], i))
        place.grid(alpha=0.3)
    axes[0].set_ylabel("gate (1: as it is)")
    about = "one image" if len(found) == 1 else f"mean of {len(found)} images, band: standard deviation"
    figure.suptitle(f"CRB's gates, {about}", fontsize=11)
    figure.savefig(file, dpi=110)
