"""A table as pictures: differences to the first row with their intervals, and AP as training went on."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from drfpn.ablations.statistics import Difference
from drfpn.ablations.summary import Summary
from drfpn.visualization.boxes import PALETTE

_SMALL: Any = {"loc": "left", "fontsize": 8, "color": "0.35"}


def draw_summary(summary: Summary, picture: Path) -> None:
    """Draw a point and an interval for each row that was measured, and a ring for what the paper has.

    Below stands what each part adds, where the rows tell.

    Args:
        summary: the table.
        picture: the file.
    """
    first, *lines = summary.lines
    base = first.paper.get("AP", 0.0)
    entries = [(line.title, line.difference, line.paper["AP"] - base if line.paper else None) for line in lines]
    entries += [(f"with - without {name}", part.difference, part.paper) for name, part in summary.parts.items()]
    figure, axes = _begin(summary.title, 1.6 + 0.42 * max(1, len(entries)))
    axes.axvline(0, color="0.6", linewidth=1)
    for y, (_, gap, paper) in enumerate(entries):
        if gap is not None:
            _draw_gap(axes, y, gap, "pairs" if y >= len(lines) else "seeds")
        if paper is not None:
            axes.plot(paper, y, "o", color=PALETTE[4], fillstyle="none", markersize=7)
    if summary.parts:
        axes.axhline(len(lines) - 0.5, color="0.8", linewidth=1)
    axes.set_yticks(range(len(entries)), [title for title, _, _ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.margins(x=0.15)
    measured = [gap for _, gap, _ in entries if gap is not None]
    seen = within_sight(measured)
    if len(seen) < len(measured):  # else that one interval is all that the picture shows
        low, high = min(gap.low for gap in seen), max(gap.high for gap in seen)
        axes.set_xlim(low - 0.15 * (high - low), high + 0.25 * (high - low))
    axes.set_xlabel(f"AP above {first.title}, bar: 95 % interval over images and seeds, grey where it holds zero")
    axes.grid(axis="x", alpha=0.3)
    subtitle = summary.about + ("\nring: the paper, ResNet-50 on COCO" if any(line.paper for line in lines) else "")
    axes.set_title(subtitle, **_SMALL)
    figure.savefig(picture, dpi=120)


def _draw_gap(axes: Axes, y: int, gap: Difference, unit: str) -> None:
    colour = PALETTE[0] if gap.clear else "0.45"
    axes.plot([gap.low, gap.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot(gap.mean, y, "o", color=colour, markersize=6)
    note = f" {gap.seeds} {unit if gap.seeds > 1 else unit[:-1]}" + ("" if gap.over_seeds else ", images only")
    axes.annotate(
        note, (gap.high, y), textcoords="offset points", xytext=(3, -3), fontsize=7, color="0.4", clip_on=True
    )


def within_sight(gaps: Sequence[Difference]) -> list[Difference]:
    """Return those whose intervals are not many times as wide as the others', as that of a run that fell over is."""
    widths = [gap.high - gap.low for gap in gaps]
    return [gap for gap, width in zip(gaps, widths, strict=True) if width <= 4 * median(widths)]


def draw_curves(summary: Summary, picture: Path) -> None:
    """Draw AP over epochs, a line a row: the mean over seeds, and a bar of their standard deviation.

    Args:
        summary: the table.
        picture: the file.
    """
    drawn = [line for line in summary.lines if line.curve]
    many = len(drawn) > len(PALETTE)
    figure, axes = _begin(summary.title, 6 if many else 4.5)
    for i, line in enumerate(drawn):
        epochs = [epoch + 0.04 * (i - len(drawn) / 2) for epoch in line.curve]  # beside each other
        means, bars = [s.mean for s in line.curve.values()], [s.sd or 0.0 for s in line.curve.values()]
        colour, style = PALETTE[i % len(PALETTE)], ("-", "--", ":")[i // len(PALETTE) % 3]
        name = f"{line.title}, {len(line.seeds)} seed{'s' * (len(line.seeds) > 1)}"
        axes.errorbar(epochs, means, bars, capsize=2, color=colour, linestyle=style, marker="o", label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("AP, mean and standard deviation over seeds")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if many:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    elif drawn:
        axes.legend(fontsize=8)
    axes.set_title(summary.about, **_SMALL)
    figure.savefig(picture, dpi=120)


def _begin(title: str, height: float) -> tuple[Figure, Axes]:
    """Return a figure of one pair of axes below a title; the height is in inches."""
    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure, figure.subplots()
