"""Inference time of necks over image size, batch size, width and number of levels.

``python benchmarks/scaling.py [--turns 3] [--threads 2] --out PICTURE.png``

Each is varied alone from one setting (640 x 640, batch 1, width 128, four levels). The necks are timed in turns in one
process; a point is the median over the turns. The times are also written as JSON beside the plot.
"""

import argparse
import json
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pyramid import LAST, R50, infer
from turns import time_in_turns

from drfpn import DRFPN, FPN, PAFPN

NECKS = {"FPN": FPN, "PAFPN": PAFPN, "DRFPN": DRFPN}
COLORS = {"FPN": "#0072B2", "PAFPN": "#009E73", "DRFPN": "#D55E00"}
BASE = {"side": 640, "batch": 1, "width": 128, "levels": 4}
AXES = {
    "side": ([320, 480, 640, 800, 1056, 1344], "side of the image, pixels"),
    "batch": ([1, 2, 4, 8], "batch size"),
    "width": ([64, 128, 192, 256], "width, channels"),
    "levels": ([2, 3, 4], "levels, C5 the coarsest"),
}


def measure(setting: dict[str, int], turns: int) -> dict[str, float]:
    """Return the median seconds of each neck."""
    channels = R50[-setting["levels"] :]
    torch.manual_seed(0)
    maps = [
        torch.randn(setting["batch"], c, *[setting["side"] // (4 << R50.index(c))] * 2).contiguous(memory_format=LAST)
        for c in channels
    ]
    models: dict[str, Any] = {name: make(channels, setting["width"]) for name, make in NECKS.items()}
    functions = {name: partial(infer, model.to(memory_format=LAST), maps) for name, model in models.items()}
    return {name: statistics.median(seconds) for name, seconds in time_in_turns(functions, turns).items()}


def draw(points: dict[str, list[dict[str, float]]], file: Path) -> None:
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    for axes, (what, (values, label)) in zip(figure.subplots(1, len(AXES)), AXES.items(), strict=True):
        for name, color in COLORS.items():
            milliseconds = [1e3 * point[name] for point in points[what]]
            axes.plot(values, milliseconds, "o-", color=color, label=name)
        axes.set_xlabel(label)
        axes.set_xticks(values, [str(value) for value in values], fontsize=8)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("inference, ms")
    figure.axes[0].legend(frameon=False)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    points: dict[str, list[dict[str, float]]] = {}
    for what, (values, label) in AXES.items():
        points[what] = []
        for value in values:
            print(f"{label}: {value}", file=sys.stderr)
            points[what].append(measure(BASE | {what: value}, options.turns))
    draw(points, options.out)
    options.out.with_suffix(".json").write_text(json.dumps({"base": BASE, "seconds": points}, indent=1))


if __name__ == "__main__":
    main()
