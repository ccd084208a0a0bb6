"""Figures of a neck's intermediate tensors: feature maps of its levels, offsets, omega and gates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from drfpn.visualization.boxes import PALETTE
from drfpn.visualization.diagnostics import pair_name
from drfpn.visualization.fonts import figure_name, save_figure
from drfpn.visualization.hooks import NeckTensors

OutputFile = Path | BinaryIO
"""Path of a figure, or a binary file that is open for writing."""
ARROWS = 24
"""Number of arrows along the longer side of a field of offsets."""
PANEL_WIDTH = 3.0
"""Inches."""


def most_active_channels(tensors: NeckTensors, level: int, number: int) -> list[int]:
    """Return the channels of an output level with the largest standard deviation over pixels, the largest first.

    Args:
        tensors: intermediate tensors of a neck.
        level: index of the level.
        number: how many channels.
    """
    deviation = tensors.outputs[level].flatten(1).std(dim=1)
    return [int(channel) for channel in deviation.argsort(descending=True)[:number]]


def select_channel(m: Tensor, channel: int | None) -> Tensor:
    """Return a channel (H, W) of a map (C, H, W), or the mean over channels for ``None``."""
    return m.mean(0) if channel is None else m[channel]


def draw_features_before_fusion(
    tensors: NeckTensors, level: int, channels: Sequence[int | None], file: OutputFile
) -> None:
    """Draw channels of the laterals of two neighboring levels (Figure 1); the panels of a row share their color scale.

    Args:
        tensors: intermediate tensors of a neck.
        level: index of the finer level.
        channels: indices of channels, or ``None`` for the mean over channels.
        file: the figure.
    """
    columns = {tensors.levels[i]: tensors.laterals[i] for i in (level, level + 1)}
    _draw_grid(columns, channels, {}, f"Before fusion: laterals of {pair_name(tensors, level)}", file)


def draw_features_after_fusion(
    runs: Mapping[str, NeckTensors],
    level: int,
    channels: Sequence[int | None],
    detections: Mapping[str, Image.Image],
    file: OutputFile,
) -> None:
    """Draw channels of an output level of several runs, and their detections (Figure 5); rows share their color scale.

    Args:
        runs: intermediate tensors by name of the run.
        level: index of the level.
        channels: indices of channels, or ``None`` for the mean over channels.
        detections: images with detections by name of the run.
        file: the figure.
    """
    name = next(iter(runs.values())).levels[level].replace("C", "level ")
    columns = {run: tensors.outputs[level] for run, tensors in runs.items()}
    _draw_grid(columns, channels, detections, f"After fusion, {name}", file)


def draw_output_levels(runs: Mapping[str, NeckTensors], file: OutputFile, *, mean: bool) -> None:
    """Draw every output level of several runs: a row per run, a column per level, whose panels share a color scale.

    Args:
        runs: intermediate tensors by name of the run.
        file: the figure.
        mean: whether to draw the mean over channels; else the most active channel of each level.
    """
    levels = sorted({level for tensors in runs.values() for level in tensors.levels})
    height, width = next(iter(runs.values())).outputs[0].shape[-2:]
    size = (PANEL_WIDTH * len(levels) + 0.6, (PANEL_WIDTH * height / width + 0.45) * len(runs) + 1.4)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(runs), len(levels), squeeze=False)
    for column, level in enumerate(levels):
        maps = {}
        for row, tensors in enumerate(runs.values()):
            axes[row, column].set(xticks=[], yticks=[])
            if level in tensors.levels:
                i = tensors.levels.index(level)
                channel = None if mean else most_active_channels(tensors, i, 1)[0]
                maps[row] = (select_channel(tensors.outputs[i], channel), channel)
        low = min(float(m.min()) for m, _ in maps.values())
        high = max(float(m.max()) for m, _ in maps.values())
        for row, (m, channel) in maps.items():
            panel = axes[row, column]
            image = panel.imshow(m.numpy(), cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
            details = f"{m.shape[-1]} x {m.shape[-2]}" + ("" if mean else f", channel {channel}")
            panel.set_title(f"{level.replace('C', 'level ')}: {details}", fontsize=9)
        figure.colorbar(image, ax=list(axes[:, column]), label="activation", orientation="horizontal", shrink=0.8)
    for panel, name in zip(axes[:, 0], runs, strict=True):
        panel.set_ylabel(figure_name(name, 36), fontsize=9)
    figure.suptitle("Output levels of the neck: " + ("mean over channels" if mean else "most active channel"))
    save_figure(figure, file)


def _draw_grid(
    columns: Mapping[str, Tensor],
    channels: Sequence[int | None],
    detections: Mapping[str, Image.Image],
    title: str,
    file: OutputFile,
) -> None:
    """Draw a row per channel and a column per map, and images with detections in the last row."""
    rows = len(channels) + bool(detections)
    shape = next(iter(columns.values())).shape
    height = PANEL_WIDTH * shape[-2] / shape[-1]
    figure = Figure(figsize=(PANEL_WIDTH * len(columns) + 1.4, (height + 0.35) * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for row, channel in zip(axes, channels, strict=False):
        maps = [select_channel(m, channel) for m in columns.values()]
        low, high = min(float(m.min()) for m in maps), max(float(m.max()) for m in maps)
        for panel, m in zip(row, maps, strict=True):
            image = panel.imshow(m.numpy(), cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
        row[0].set_ylabel("mean of all" if channel is None else f"channel {channel}")
        figure.colorbar(image, ax=list(row), label="activation", shrink=0.9, pad=0.01)
    for panel, picture in zip(axes[-1], detections.values(), strict=False):
        panel.imshow(np.asarray(picture))
        if panel is axes[-1][0]:
            panel.set_ylabel("detections")
    for panel, name in zip(axes[0], columns, strict=True):
        panel.set_title(figure_name(name, 36), fontsize=10)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=11)
    save_figure(figure, file)


def draw_offsets(tensors: NeckTensors, image: Tensor, file: OutputFile) -> None:
    """Draw SRB's offsets as arrows and by their length, and its omega; a row for each pair of levels.

    Args:
        tensors: intermediate tensors of a neck with offsets or omega.
        image: uint8 (3, H, W).
        file: the figure.
    """
    pairs = sorted(set(tensors.offsets) | set(tensors.omegas))
    gray = image.permute(1, 2, 0).float().mean(dim=2).numpy()
    height = PANEL_WIDTH * image.shape[-2] / image.shape[-1]
    figure = Figure(figsize=(3 * PANEL_WIDTH + 2.6, (height + 0.45) * len(pairs) + 0.4), layout="constrained")
    axes = figure.subplots(len(pairs), 3, squeeze=False)
    extent = (0, image.shape[-1], image.shape[-2], 0)
    style: dict[str, Any] = {"extent": extent, "interpolation": "nearest", "alpha": 0.8}
    for row, i in zip(axes, pairs, strict=True):
        for panel in row:
            panel.imshow(gray, cmap="gray", extent=extent, vmin=0, vmax=255, alpha=0.6)
            panel.set(xticks=[], yticks=[])
        row[0].set_ylabel(pair_name(tensors, i))
        if i in tensors.offsets:
            _draw_arrows(row[0], tensors.offsets[i], image.shape[-2:])
            length = tensors.offsets[i].norm(dim=0).numpy()
            mappable = row[1].imshow(length, cmap="viridis", vmin=0, vmax=max(float(length.max()), 1e-6), **style)
            figure.colorbar(mappable, ax=row[1], label="pixels", shrink=0.9)
        else:
            row[0].set_title("no offsets", fontsize=9)
        if i in tensors.omegas:
            omega = tensors.omegas[i].numpy()
            limit = max(float(np.abs(omega).max()), 1e-6)
            mappable = row[2].imshow(omega, cmap="RdBu_r", vmin=-limit, vmax=limit, **style)
            figure.colorbar(mappable, ax=row[2], label="omega", shrink=0.9)
    for panel, title in zip(axes[0], ("offsets", "length of the offsets", "omega"), strict=True):
        panel.set_title(title, fontsize=10)
    save_figure(figure, file)


def _draw_arrows(axes: Any, offset: Tensor, size: Sequence[int]) -> None:
    """Draw arrows from pixels to where they are sampled; the longest is as long as the arrows are apart."""
    height, width = offset.shape[-2:]
    step = max(1, round(max(height, width) / ARROWS))
    rows, columns = np.arange(step // 2, height, step), np.arange(step // 2, width, step)
    x, y = np.meshgrid((columns + 0.5) * size[1] / width, (rows + 0.5) * size[0] / height)
    dx, dy = (offset[k][rows[:, None], columns[None]].numpy() for k in (0, 1))
    longest = float(np.hypot(dx, dy).max())
    spacing = step * size[1] / width
    scale = spacing / longest if longest > 0 else 1.0
    axes.quiver(x, y, dx * scale, dy * scale, angles="xy", scale_units="xy", scale=1, color=PALETTE[4], width=0.004)
    axes.set_xlabel(f"longest arrow: {longest:.2f} pixels of the level", fontsize=8)


def draw_gates(images: Sequence[NeckTensors], file: OutputFile) -> None:
    """Draw CRB's gates, sorted over channels, a panel for each pair of levels; for several images mean and deviation.

    Args:
        images: intermediate tensors of a neck for each image.
        file: the figure.
    """
    pairs = sorted(images[0].gates)
    figure = Figure(figsize=(PANEL_WIDTH * 1.1 * len(pairs) + 0.6, 3.2), layout="constrained")
    axes = figure.subplots(1, len(pairs), squeeze=False, sharey=True)[0]
    for panel, i in zip(axes, pairs, strict=True):
        gates = torch.stack([tensors.gates[i] for tensors in images])  # (images, C)
        order = gates.mean(0).argsort(descending=True)
        mean = gates.mean(0)[order].numpy()
        rank = np.arange(len(mean))
        panel.axhline(1, color="0.7", linewidth=1)
        panel.plot(rank, mean, color=PALETTE[0])
        if len(images) > 1:
            deviation = gates.std(0)[order].numpy()
            panel.fill_between(rank, mean - deviation, mean + deviation, color=PALETTE[0], alpha=0.25, linewidth=0)
        panel.set(xlabel="channels, sorted", title=pair_name(images[0], i))
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("gate (1: unchanged)")
    caption = "one image" if len(images) == 1 else f"mean of {len(images)} images, band: standard deviation"
    figure.suptitle(f"Gates of CRB, {caption}", fontsize=11)
    save_figure(figure, file)
