"""How many images a second the data pipeline delivers at the paper's size, beside how many can be trained.

python benchmarks/pipeline.py DATA [--workers 2] [--rounds 5]

Training is that of faster_rcnn_lite0_drfpn at the small scale, on all cores, its images at hand. Both are measured in
turns in one process.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from drfpn.data import open_dataset
from drfpn.data.augment.transforms import collate
from drfpn.data.workers import begin_worker
from drfpn.training import resolve
from drfpn.training.checkpoint import Card
from drfpn.training.interrupt import Interruption
from drfpn.training.run import Run, start_run, training_images
from drfpn.training.sampler import SeededSampler, StepBatches
from drfpn.training.trainer import take_step
from drfpn.utils.console import say

PRESETS = ("basic", "multiscale", "lsj")


def delivered(data: str, preset: str, workers: int, images: int) -> float:
    """Return the images a second that the loader hands on, from when its workers run."""
    config = resolve("faster_rcnn_r50_drfpn", data, scale="paper", overrides=[f"transforms={preset}"])
    dataset = open_dataset(data)
    batches = StepBatches(SeededSampler(len(dataset), 0), 4)
    loader = DataLoader(
        training_images(dataset, config),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=begin_worker,
        persistent_workers=True,
    )
    count, began, warm = 0, 0.0, workers * 4
    for epoch in range(100):
        batches.start(epoch)
        for batch in loader:
            count += len(batch.images)
            if not began and count >= warm:
                began, count = time.perf_counter(), 0
            if began and count >= images:
                return count / (time.perf_counter() - began)
    raise SystemExit("too few images")


def trained(run: Run, parts: list, steps: int) -> float:
    """Return the images a second that steps on one batch at hand take."""
    began = time.perf_counter()
    for _ in range(steps):
        take_step(run, parts)
    return steps * len(parts[0].images) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=120)
    arguments = parser.parse_args()
    config = resolve("faster_rcnn_lite0_drfpn", arguments.data, scale="small")
    dataset = open_dataset(arguments.data)
    card = Card(config=config, classes=dataset.classes, category_ids=dataset.category_ids)
    rows: dict[str, list[float]] = {name: [] for name in ("training", *PRESETS)}
    with tempfile.TemporaryDirectory() as folder:
        run = start_run(card, dataset, Path(folder), torch.device("cpu"), Interruption(), resume=False)
        run.model.train()
        seen = training_images(dataset, config)
        keys = list(SeededSampler(len(dataset), 0))[: config.batch_size]
        parts = [collate([seen[key] for key in keys])]
        trained(run, parts, 2)
        for number in range(arguments.rounds):
            rows["training"].append(trained(run, parts, 6))
            for preset in PRESETS:
                rows[preset].append(delivered(arguments.data, preset, arguments.workers, arguments.images))
            say(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.1f}" for name, values in rows.items()))
    ratios = {preset: [a / b for a, b in zip(rows[preset], rows["training"], strict=True)] for preset in PRESETS}
    result = {
        name: {"median": statistics.median(v), "least": min(v), "most": max(v)}
        for name, v in (rows | {f"{preset} / training": ratio for preset, ratio in ratios.items()}).items()
    }
    print(json.dumps({name: {k: round(x, 2) for k, x in row.items()} for name, row in result.items()}, indent=1))


if __name__ == "__main__":
    main()
