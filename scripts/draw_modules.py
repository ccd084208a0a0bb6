"""Draw the packages of drfpn, their modules and which package imports which.

``python scripts/draw_modules.py [--out docs/modules.svg]``
"""

import argparse
import textwrap
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import grimp
import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).parents[1]
COLUMNS = 165
"""Characters a line of module names."""
COLORS = ("#4477aa", "#ee6677", "#228833", "#aa8822", "#3399aa", "#aa3377", "#777777")


def read_layers() -> list[str]:
    """Return the packages from top to bottom, as the import-linter contract lists them."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = tools["importlinter"]["contracts"][0]["layers"]
    return [name.strip().removeprefix("drfpn.") for layer in layers for name in layer.split("|")]


def read_modules(packages: list[str]) -> tuple[dict[str, list[str]], Counter[tuple[str, str]]]:
    """Return the modules of each package, and how many modules of one package import from another."""
    graph = grimp.build_graph("drfpn", include_external_packages=False)
    modules: dict[str, list[str]] = defaultdict(list)
    imports: Counter[tuple[str, str]] = Counter()
    for module in sorted(graph.modules):
        _, package, *rest = [*module.split("."), ""]
        if package not in packages:
            continue
        if rest[0] and not graph.find_children(module):
            modules[package].append(".".join(rest[:-1]))
        for other in {name.split(".")[1] for name in graph.find_modules_directly_imported_by(module) if "." in name}:
            if other != package:
                imports[package, other] += 1
    return modules, imports


def draw(
    modules: Mapping[str, list[str]], imports: Mapping[tuple[str, str], int], packages: list[str], file: Path
) -> None:
    """Draw a box for each package, from top to bottom, and an arc for each pair that imports."""
    matplotlib.rcParams["svg.hashsalt"] = "drfpn"  # the same file each time
    lines = {name: textwrap.wrap("   ".join(modules[name]), COLUMNS) or [""] for name in packages}
    heights = {name: 0.62 + 0.24 * len(lines[name]) for name in packages}
    total = sum(heights.values()) + 0.16 * len(packages)
    figure = Figure(figsize=(12, 0.62 * total))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 12)
    axes.set_ylim(total, 0)
    axes.axis("off")
    middle, top = {}, 0.08
    for i, name in enumerate(packages):
        color = COLORS[i % len(COLORS)]
        box = FancyBboxPatch(
            (0.15, top), 8.7, heights[name], boxstyle="round,pad=0,rounding_size=0.1", fc=color + "18", ec=color
        )
        axes.add_patch(box)
        axes.text(0.3, top + 0.14, name, fontsize=11, weight="bold", color=color, va="top")
        axes.text(0.3, top + 0.50, "\n".join(lines[name]), fontsize=7.2, color="#333333", va="top", linespacing=1.35)
        middle[name] = top + heights[name] / 2
        top += heights[name] + 0.16
    for i, name in enumerate(packages):
        for other in packages:
            if count := imports.get((name, other), 0):
                arc = FancyArrowPatch(
                    (8.87, middle[name] + 0.02 * i),
                    (8.87, middle[other]),
                    connectionstyle="arc3,rad=-0.45" if middle[name] < middle[other] else "arc3,rad=0.45",
                    arrowstyle="-|>",
                    mutation_scale=8,
                    lw=0.5 + 0.25 * count**0.5,
                    color=COLORS[i % len(COLORS)],
                    alpha=0.75,
                )
                axes.add_patch(arc)
    FigureCanvasAgg(figure)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/modules.svg")
    args = parser.parse_args()
    packages = read_layers()
    draw(*read_modules(packages), packages, args.out)
    print(args.out)


if __name__ == "__main__":
    main()
