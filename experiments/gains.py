"""Omega of SRB and gates of CRB at each step of a training, by convention.

``python experiments/gains.py --data FOLDER [--epochs 8] [--seed 0] [--out docs/gains.png]``

Trains Faster R-CNN lite0 with DRFPN as the census does, once for each convention, and plots the factor of the coarser
map (1 + the mean of omega) and the range of the gates over the steps. The values are written to a .json file of the
same name; if it exists, it is plotted without training.
"""

import argparse
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from drfpn.data import open_dataset
from drfpn.training.checkpoint import Card
from drfpn.training.interrupt import InterruptHandler
from drfpn.training.resolve import resolve
from drfpn.training.setup import build_run
from drfpn.training.trainer import train_step
from drfpn.utils.console import bar

CONVENTIONS = ("paper", "bounded")
SETTINGS = ("base_lr=0.04", "workers=0", "max_train_images=200")
END = 1e4
"""Loss above which a run counts as diverged and is ended."""


def record(data: str, convention: str, epochs: int, seed: int) -> list[dict[str, Any]]:
    """Train, and return loss, factors and gates of each step."""
    overrides = [*SETTINGS, f"neck_options.convention={convention}"]
    config = resolve("faster_rcnn_lite0_drfpn", data, epochs=epochs, seed=seed, overrides=overrides)
    dataset = open_dataset(data, "train", max_images=config.max_train_images)
    card = Card(config=config, classes=dataset.classes, category_ids=dataset.category_ids)
    steps: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder, InterruptHandler() as interrupt:
        run = build_run(card, dataset, Path(folder), torch.device("cpu"), interrupt, resume=False)
        neck: Any = run.state.model.backbone.neck
        values: dict[str, Any] = {}
        for i, (srb, crb) in enumerate(zip(neck.top_down.steps, neck.bottom_up.steps, strict=True)):
            srb.register_forward_hook(lambda block, maps, _, i=i: values.update({f"factor {i}": factor(block, maps)}))
            crb.register_forward_hook(lambda block, maps, _, i=i: values.update({f"gates {i}": gates(block, maps)}))
        run.model.train()
        with bar(convention, run.batch_sampler.steps_per_epoch * epochs) as progress:
            for epoch in range(epochs):
                run.batch_sampler.set_epoch(epoch)
                for part in run.loader:
                    loss = float(train_step(run, [part])["loss"])
                    steps.append({"loss": loss, **values})
                    progress.advance(f"loss {loss:.3g}")
                    if not math.isfinite(loss) or loss > END:
                        return steps
        assert run.run_logger is not None
        run.run_logger.close()
    return steps


def factor(block: nn.Module, maps: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Return the factor of the coarser map: 1 of the upsampled map plus the mean omega of the sampled one."""
    with torch.no_grad():
        return 1 + float(block.predict_offset_and_weight(*maps)[1].mean())  # type: ignore[operator]


def gates(block: Any, maps: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
    """Return the smallest and the largest gate."""
    with torch.no_grad():
        values = block.refinement.predict_gates(*maps)
    return float(values.min()), float(values.max())


def draw(steps_by_convention: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Plot a column for each convention: loss, factors, gates."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots(3, len(steps_by_convention), sharex=True, sharey="row")
    for column, (convention, steps) in enumerate(steps_by_convention.items()):
        loss, factors, ranges = axes[:, column]
        numbers = range(len(steps))
        loss.plot(numbers, [step["loss"] for step in steps], color="0.3")
        for i in range(3):
            pair = f"C{i + 3} into C{i + 2}", f"C{i + 2} gates C{i + 3}"
            factors.plot(numbers, [step[f"factor {i}"] for step in steps], label=pair[0])
            low, high = zip(*(step[f"gates {i}"] for step in steps), strict=True)
            ranges.fill_between(numbers, low, high, alpha=0.4, label=pair[1])
        loss.set_yscale("log")
        largest = max(step["loss"] for step in steps)
        loss.set_title(f"convention={convention}, largest loss {largest:.3g}")
        for axis in (factors, ranges):
            axis.set_yscale("symlog", linthresh=3)
            axis.axhline(1, color="0.6", linewidth=0.8)
            axis.legend(fontsize=8, loc="lower right")
        ranges.set_xlabel("step")
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel("factor of the coarser map\n1 + mean omega (SRB)")
    axes[2, 0].set_ylabel("smallest to largest gate\n(CRB)")
    figure.savefig(file, dpi=110)


def main() -> None:
    """Train the missing conventions and plot all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/gains.png"))
    args = parser.parse_args()
    file = args.out.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    steps = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for convention in CONVENTIONS:
        if convention not in steps:
            steps[convention] = record(args.data, convention, args.epochs, args.seed)
            file.write_text(json.dumps(steps) + "\n", encoding="utf-8")
    draw(steps, args.out)


if __name__ == "__main__":
    main()
