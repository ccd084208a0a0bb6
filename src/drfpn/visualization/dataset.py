"""A picture of what a data set holds: sizes, shapes, crowding and classes of its objects."""

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from drfpn.data.stats import MEDIUM_BELOW, SMALL_BELOW, Objects, shapes_of
from drfpn.visualization.boxes import PALETTE

CLASSES = 20
"""Most classes that are drawn, the most frequent ones."""


def save_distribution(objects: Objects, picture: BinaryIO, form: str = "png") -> None:
    """Draw histograms of the objects of a split, crowd regions left out, and write the picture as ``form``."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    (crowding, classes), (sides, aspects) = figure.subplots(2, 2)
    real = ~objects.crowd
    per_image = np.bincount(objects.images[real], minlength=len(objects.sizes))
    crowding.hist(
        per_image,
        bins=(np.arange(per_image.max() + 2) - 0.5).tolist() if per_image.max() < 100 else 100,
        color=PALETTE[0],
    )
    crowding.set(xlabel="objects in an image", ylabel="images")
    counts = np.bincount(objects.labels[real], minlength=len(objects.classes) + 1)[1:]
    most = np.argsort(-counts, kind="stable")[:CLASSES][::-1]
    classes.barh([objects.classes[i] for i in most], counts[most], color=PALETTE[0])
    few = len(most) < len(counts)
    classes.set(xlabel=f"objects of the {len(most)} most frequent of {len(counts)} classes" if few else "objects")
    classes.tick_params(axis="y", labelsize=7)
    shapes = shapes_of(objects)
    side = np.sqrt(shapes["width"] * shapes["height"])
    bounds = [SMALL_BELOW**0.5, MEDIUM_BELOW**0.5]
    _log_histogram(
        sides, side, "side of the object (root of width x height), px", [1, 3, 10, 32, 96, 300, 1000], bounds
    )
    _log_histogram(aspects, shapes["aspect"], "width / height", [0.1, 0.2, 0.5, 1, 2, 5, 10], [1])
    figure.savefig(picture, dpi=110, format=form)


def _log_histogram(
    axes: Axes, values: NDArray[np.float64], name: str, ticks: Sequence[float], lines: Sequence[float]
) -> None:
    axes.set(xlabel=name, ylabel="objects", xscale="log")
    if len(values):
        bins = np.geomspace(values.min() * 0.99, values.max() * 1.01, 50)
        axes.hist(values, bins=bins.tolist(), color=PALETTE[0])
        limits = axes.get_xlim()
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xlim(limits)
    axes.xaxis.set_minor_formatter(NullFormatter())
    for line in lines:
        axes.axvline(line, color="black", linewidth=0.8, linestyle=":")
