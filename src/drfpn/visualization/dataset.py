"""Histograms of a data set: objects per image, classes, sizes and aspect ratios of objects."""

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from drfpn.data.annotations import Annotations
from drfpn.data.stats import MEDIUM_BELOW, SMALL_BELOW, box_dimensions
from drfpn.visualization.boxes import PALETTE
from drfpn.visualization.fonts import figure_name, save_figure

MAX_CLASSES = 20
"""Number of classes that are drawn, the most frequent ones."""


def save_dataset_histograms(objects: Annotations, file: BinaryIO, format: str = "png") -> None:
    """Draw histograms of the objects of a split; crowd regions are left out.

    Args:
        objects: objects of the split.
        file: the figure, open for writing.
        format: ``"png"``, ``"pdf"`` or ``"svg"``.
    """
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (per_image_axes, class_axes), (side_axes, aspect_axes) = figure.subplots(2, 2)
    not_crowd = ~objects.crowd
    per_image = np.bincount(objects.image_indices()[not_crowd], minlength=len(objects.sizes))
    per_image_axes.hist(
        per_image,
        bins=(np.arange(per_image.max() + 2) - 0.5).tolist() if per_image.max() < 100 else 100,
        color=PALETTE[0],
    )
    per_image_axes.set(xlabel="objects in an image", ylabel="images")
    counts = np.bincount(objects.labels[not_crowd], minlength=len(objects.classes) + 1)[1:]
    frequent = np.argsort(-counts, kind="stable")[:MAX_CLASSES][::-1]
    class_axes.barh(range(len(frequent)), counts[frequent], color=PALETTE[0])
    class_axes.set_yticks(range(len(frequent)), [figure_name(objects.classes[i], 40) for i in frequent])
    label = f"objects of the {len(frequent)} most frequent of {len(counts)} classes"
    class_axes.set(xlabel=label if len(frequent) < len(counts) else "objects")
    class_axes.tick_params(axis="y", labelsize=7)
    shapes = box_dimensions(objects)
    side = np.sqrt(shapes["width"] * shapes["height"])
    bounds = [SMALL_BELOW**0.5, MEDIUM_BELOW**0.5]
    label = "side of the object (root of width x height), px"
    _log_histogram(side_axes, side, label, [1, 3, 10, 32, 96, 300, 1000], bounds)
    _log_histogram(aspect_axes, shapes["aspect"], "width / height", [0.1, 0.2, 0.5, 1, 2, 5, 10], [1])
    save_figure(figure, file, format)


def _log_histogram(
    axes: Axes, values: NDArray[np.float64], label: str, ticks: Sequence[float], lines: Sequence[float]
) -> None:
    axes.set(xlabel=label, ylabel="objects", xscale="log")
    if len(values):
        bins = np.geomspace(values.min() * 0.99, values.max() * 1.01, 50)
        axes.hist(values, bins=bins.tolist(), color=PALETTE[0])
    limits = axes.get_xlim()
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(limits)
    axes.xaxis.set_minor_formatter(NullFormatter())
    for line in lines:
        axes.axvline(line, color="black", linewidth=0.8, linestyle=":")
