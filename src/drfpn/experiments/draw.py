"""A table as a picture: the difference of each row to the first, with its interval, and the paper's beside it."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from drfpn.analysis.draw import PALETTE
from drfpn.experiments.compare import Difference
from drfpn.experiments.summary import Summary


def draw_summary(summary: Summary, picture: Path) -> None:
    """Draw a point and an interval for each row that was measured, and a ring for what the paper has.

    Below stands what each part adds, where the rows tell.

    Args:
        summary: the table.
        picture: the file.
    """
    first, *lines = summary.lines
    entries = [(line.title, line.difference) for line in lines]
    entries += [(f"with - without {part}", gap) for part, gap in summary.parts.items()]
    figure = Figure(figsize=(8, 1.6 + 0.42 * max(1, len(entries))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.axvline(0, color="0.6", linewidth=1)
    for y, (_, gap) in enumerate(entries):
        if gap is not None:
            _draw_gap(axes, y, gap, "pairs" if y >= len(lines) else "seeds")
    for y, line in enumerate(lines):
        if line.paper:
            axes.plot(line.paper["AP"] - first.paper["AP"], y, "o", color=PALETTE[4], fillstyle="none", markersize=7)
    if summary.parts:
        axes.axhline(len(lines) - 0.5, color="0.8", linewidth=1)
    axes.set_yticks(range(len(entries)), [title for title, _ in entries])
    axes.set_ylim(len(entries) - 0.4, -0.6)
    axes.margins(x=0.15)
    axes.set_xlabel(f"AP above {first.title}, bar: 95 % interval over images and seeds, grey where it holds zero")
    axes.grid(axis="x", alpha=0.3)
    figure.suptitle(summary.title, x=0.01, ha="left", fontsize=11)
    subtitle = summary.about + ("\nring: the paper, ResNet-50 on COCO" if any(line.paper for line in lines) else "")
    axes.set_title(subtitle, loc="left", fontsize=8, color="0.35")
    figure.savefig(picture, dpi=120)


def _draw_gap(axes: Axes, y: int, gap: Difference, unit: str) -> None:
    colour = PALETTE[0] if gap.clear else "0.45"
    axes.plot([gap.low, gap.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot(gap.mean, y, "o", color=colour, markersize=6)
    note = f" {gap.seeds} {unit}" if gap.seeds > 1 else " 1 seed, images only"
    axes.annotate(note, (gap.high, y), textcoords="offset points", xytext=(3, -3), fontsize=7, color="0.4")
