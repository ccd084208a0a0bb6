"""Images per second of the data pipeline at the paper's scale, relative to training.

python benchmarks/pipeline.py DATA [--workers 2] [--rounds 5]

Training is that of faster_rcnn_lite0_drfpn at the small scale on all cores, with images in memory. Both are timed in
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
from drfpn.data.augment.transformed_dataset import collate
from drfpn.data.workers import init_worker
from drfpn.training import resolve
from drfpn.training.checkpoint import Card
from drfpn.training.interrupt import InterruptHandler
from drfpn.training.sampler import SeededSampler, StepBatchSampler
from drfpn.training.setup import Run, build_run, make_training_dataset
from drfpn.training.trainer import train_step
from drfpn.utils.console import say

PRESETS = ("basic", "multiscale", "lsj")


def loader_rate(data: str, preset: str, workers: int, images: int) -> float:
    """Return the images per second of the loader, after its workers have started."""
    config = resolve("faster_rcnn_r50_drfpn", data, scale="paper", overrides=[f"transforms={preset}"])
    dataset = open_dataset(data)
    batches = StepBatchSampler(SeededSampler(len(dataset), 0), 4)
    loader = DataLoader(
        make_training_dataset(dataset, config),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=init_worker,
        persistent_workers=True,
    )
    count, start, warmup = 0, 0.0, workers * 4
    for epoch in range(100):
        batches.set_epoch(epoch)
        for batch in loader:
            count += len(batch.images)
            if not start and count >= warmup:
                start, count = time.perf_counter(), 0
            if start and count >= images:
                return count / (time.perf_counter() - start)
    raise SystemExit("too few images")


def training_rate(run: Run, parts: list, steps: int) -> float:
    """Return the images per second of training steps on a batch in memory."""
    start = time.perf_counter()
    for _ in range(steps):
        train_step(run, parts)
    return steps * len(parts[0].images) / (time.perf_counter() - start)


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
        run = build_run(card, dataset, Path(folder), torch.device("cpu"), InterruptHandler(), resume=False)
        run.model.train()
        images = make_training_dataset(dataset, config)
        keys = list(SeededSampler(len(dataset), 0))[: config.batch_size]
        parts = [collate([images[key] for key in keys])]
        training_rate(run, parts, 2)
        for number in range(arguments.rounds):
            rows["training"].append(training_rate(run, parts, 6))
            for preset in PRESETS:
                rows[preset].append(loader_rate(arguments.data, preset, arguments.workers, arguments.images))
            say(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.1f}" for name, values in rows.items()))
    ratios = {preset: [a / b for a, b in zip(rows[preset], rows["training"], strict=True)] for preset in PRESETS}
    result = {
        name: {"median": statistics.median(v), "min": min(v), "max": max(v)}
        for name, v in (rows | {f"{preset} / training": ratio for preset, ratio in ratios.items()}).items()
    }
    print(json.dumps({name: {k: round(x, 2) for k, x in row.items()} for name, row in result.items()}, indent=1))


if __name__ == "__main__":
    main()
