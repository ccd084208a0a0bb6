"""What SRB and CRB weigh the levels with at each step of a training, by convention.

``python experiments/gains.py --data FOLDER [--epochs 8] [--seed 0] [--out docs/gains.png]``

Trains Faster R-CNN lite0 with DRFPN as the census does, once for each convention, and draws over the steps the factor
that the coarser map is added with (1 + the mean of omega) and the range of the gates. The numbers go to a file of the
same name that ends in .json; where it is there already, it is drawn without training.
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
from drfpn.training.config import resolve
from drfpn.training.interrupt import Interruption
from drfpn.training.run import start_run
from drfpn.training.trainer import take_step
from drfpn.utils.console import bar

CONVENTIONS = ("paper", "bounded")
SETTINGS = ("lr_per_16=0.04", "workers=0", "first=200")
END = 1e4
"""Loss at which a run counts as diverged and is not followed any further."""


def follow(data: str, convention: str, epochs: int, seed: int) -> list[dict[str, Any]]:
    """Train and return loss, factors and gates of each step."""
    overrides = [*SETTINGS, f"neck_options.convention={convention}"]
    config = resolve("faster_rcnn_lite0_drfpn", data, epochs=epochs, seed=seed, overrides=overrides)
    dataset = open_dataset(data, "train", first=config.first)
    card = Card(config=config, classes=dataset.classes, category_ids=dataset.category_ids)
    steps: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder, Interruption() as interruption:
        run = start_run(card, dataset, Path(folder), torch.device("cpu"), interruption, resume=False)
        neck: Any = run.state.model.backbone.neck
        seen: dict[str, Any] = {}
        for i, (srb, crb) in enumerate(zip(neck.top_down.steps, neck.bottom_up.steps, strict=True)):
            srb.register_forward_hook(lambda block, maps, _, i=i: seen.update({f"factor {i}": factor(block, maps)}))
            crb.register_forward_hook(lambda block, maps, _, i=i: seen.update({f"gates {i}": gates(block, maps)}))
        run.model.train()
        with bar(convention, run.batches.steps * epochs) as progress:
            for epoch in range(epochs):
                run.batches.start(epoch, 0)
                for part in run.loader:
                    loss = float(take_step(run, [part])["loss"])
                    steps.append({"loss": loss, **seen})
                    progress.advance(f"loss {loss:.3g}")
                    if not math.isfinite(loss) or loss > END:
                        return steps
        assert run.log is not None
        run.log.close()
    return steps


def factor(block: nn.Module, maps: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Return what the coarser map counts: 1 for the upsampled one, and omega's mean for the sampled one."""
    with torch.no_grad():
        return 1 + float(block.refine(*maps)[1].mean())  # type: ignore[operator]


def gates(block: Any, maps: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
    """Return the smallest and the largest gate."""
    with torch.no_grad():
        found = block.refinement.gates(*maps)
    return float(found.min()), float(found.max())


def draw(found: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Draw a column for each convention: loss, factors, gates."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots(3, len(found), sharex=True, sharey="row")
    for column, (convention, steps) in enumerate(found.items()):
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
    """Train what is missing and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/gains.png"))
    args = parser.parse_args()
    file = args.out.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for convention in CONVENTIONS:
        if convention not in found:
            found[convention] = follow(args.data, convention, args.epochs, args.seed)
            file.write_text(json.dumps(found) + "\n", encoding="utf-8")
    draw(found, args.out)


if __name__ == "__main__":
    main()
