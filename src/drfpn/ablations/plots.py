"""Plots of a table: differences to the first row with confidence intervals, and AP over epochs."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from drfpn.ablations.statistics import PairedDifference
from drfpn.ablations.summary import Summary
from drfpn.visualization.boxes import PALETTE
from drfpn.visualization.fonts import figure_name, save_figure

_SMALL: Any = {"loc": "left", "fontsize": 8, "color": "0.35"}


def draw_summary(summary: Summary, picture: Path) -> None:
    """Draw the difference to the first row with its confidence interval, and the published one as a ring, for each row.

    The gains of the modules follow below, for tables that have them.

    Args:
        summary: the table.
        picture: image file to write.
    """
    first, *lines = summary.lines
    base = first.paper.get("AP", 0.0)
    entries = [(line.title, line.difference, line.paper["AP"] - base if line.paper else None) for line in lines]
    entries += [(f"with - without {name}", gain.difference, gain.paper) for name, gain in summary.parts.items()]
    figure, axes = _new_figure(summary.title, 1.6 + 0.42 * max(1, len(entries)))
    axes.axvline(0, color="0.6", linewidth=1)
    for y, (_, difference, paper) in enumerate(entries):
        if difference is not None:
            _draw_interval(axes, y, difference, "pairs" if y >= len(lines) else "seeds")
        if paper is not None:
            axes.plot(paper, y, "o", color=PALETTE[4], fillstyle="none", markersize=7)
    if summary.parts:
        axes.axhline(len(lines) - 0.5, color="0.8", linewidth=1)
    axes.set_yticks(range(len(entries)), [title for title, _, _ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.margins(x=0.15)
    measured = [difference for _, difference, _ in entries if difference is not None]
    shown = exclude_outliers(measured)
    if len(shown) < len(measured):  # a single wide interval would dominate the x axis
        low, high = min(difference.low for difference in shown), max(difference.high for difference in shown)
        axes.set_xlim(low - 0.15 * (high - low), high + 0.25 * (high - low))
    axes.set_xlabel(f"AP above {first.title}, bar: 95 % interval over images and seeds, gray where it includes zero")
    axes.grid(axis="x", alpha=0.3)
    subtitle = figure_name(summary.about, 200) + (
        "\nring: the paper, ResNet-50 on COCO" if any(line.paper for line in lines) else ""
    )
    axes.set_title(subtitle, **_SMALL)
    save_figure(figure, picture, dpi=120)


def _draw_interval(axes: Axes, y: int, difference: PairedDifference, unit: str) -> None:
    color = PALETTE[0] if difference.excludes_zero else "0.45"
    axes.plot([difference.low, difference.high], [y, y], color=color, linewidth=2, solid_capstyle="butt")
    axes.plot(difference.mean, y, "o", color=color, markersize=6)
    note = f" {difference.seeds} {unit if difference.seeds > 1 else unit[:-1]}"
    note += "" if difference.over_seeds else ", images only"
    axes.annotate(
        note, (difference.high, y), textcoords="offset points", xytext=(3, -3), fontsize=7, color="0.4", clip_on=True
    )


def exclude_outliers(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """Return the differences whose interval is at most four times as wide as the median.

    The interval of a row with a diverged run is much wider.

    Args:
        differences: of the rows of a table.
    """
    widths = [difference.high - difference.low for difference in differences]
    return [d for d, width in zip(differences, widths, strict=True) if width <= 4 * median(widths)]


def draw_curves(summary: Summary, picture: Path) -> None:
    """Draw AP over epochs for each row: mean over seeds, with their standard deviation as error bars.

    Args:
        summary: the table.
        picture: image file to write.
    """
    rows = [line for line in summary.lines if line.curve]
    many = len(rows) > len(PALETTE)
    figure, axes = _new_figure(summary.title, 6 if many else 4.5)
    for i, line in enumerate(rows):
        epochs = [epoch + 0.04 * (i - len(rows) / 2) for epoch in line.curve]  # so that error bars do not overlap
        means, bars = [s.mean for s in line.curve.values()], [s.sd or 0.0 for s in line.curve.values()]
        color, style = PALETTE[i % len(PALETTE)], ("-", "--", ":")[i // len(PALETTE) % 3]
        name = f"{line.title}, {len(line.seeds)} seed{'s' * (len(line.seeds) > 1)}"
        axes.errorbar(epochs, means, bars, capsize=2, color=color, linestyle=style, marker="o", label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("AP, mean and standard deviation over seeds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if many:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    elif rows:
        axes.legend(fontsize=8)
    axes.set_title(figure_name(summary.about, 200), **_SMALL)
    save_figure(figure, picture, dpi=120)


def _new_figure(title: str, height: float) -> tuple[Figure, Axes]:
    """Return a figure with a title and one pair of axes; the height is in inches."""
    figure = Figure(figsize=(8, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure, figure.subplots()
