"""How long models take beside each other: one process, one after the other in turn, medians of ratios."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import SGD

from drfpn.training.trial_step import random_target
from drfpn.utils.console import bar


class Ratio(BaseModel):
    """Time of a model over that of the first, measured in the same turn."""

    median: float
    low: float
    """Lower quartile over the turns."""
    high: float
    """Upper quartile."""
    seconds: float
    """Median of the model's own time."""


class Times(BaseModel):
    """Of a model."""

    training: Ratio
    """Forward, backward and update of a batch."""
    inference: Ratio
    """Images to boxes, of a batch."""
    pyramid: Ratio
    """The pyramid alone, inference, on the maps of a batch."""


def compare_times(
    models: Mapping[str, nn.Module],
    *,
    size: tuple[int, int],
    batch: int = 1,
    turns: int = 7,
    objects: int = 8,
) -> dict[str, Times]:
    """Time a training step and an inference of each model, and its pyramid alone, on images of noise.

    In each turn every model takes its step once, then each its inference, then each its pyramid: a machine that
    slows down slows down all. One turn before the first warms up. What a model takes depends on what it finds; from
    random weights two-stage detectors have as many regions as they may, and post-processing as many boxes.

    Args:
        models: detectors on their device, with ``backbone.body`` and ``backbone.neck``; the first is the baseline.
        size: height and width of an image.
        batch: images at once.
        turns: measured.
        objects: on each image.
    """
    device = next(next(iter(models.values())).parameters()).device
    images = [torch.rand(3, *size, device=device) for _ in range(batch)]
    targets = [random_target(*size, objects, device) for _ in range(batch)]
    optimizers = {
        name: SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6) for name, model in models.items()
    }

    def train(name: str) -> None:
        model, optimizer = models[name].train(), optimizers[name]
        torch.stack(list(model(images, targets).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # else the gradients of all models are kept at once

    def infer(name: str) -> None:
        model: Any = models[name].eval()
        with torch.inference_mode():
            model.detect(images)

    def merge(name: str) -> None:
        backbone: Any = models[name].eval().backbone
        with torch.inference_mode():
            backbone.neck(maps[name])

    maps = {name: _maps(model, images) for name, model in models.items()}
    works = {"training": train, "inference": infer, "pyramid": merge}
    taken: dict[str, dict[str, list[float]]] = {work: {name: [] for name in models} for work in works}
    with bar("timing", (turns + 1) * len(works) * len(models)) as progress:
        for turn in range(turns + 1):
            for work, do in works.items():
                for name in models:
                    seconds = _seconds(do, name, device)
                    if turn:
                        taken[work][name].append(seconds)
                    progress.advance(name)
    first = next(iter(models))
    return {name: Times(**{work: ratio(times[name], times[first]) for work, times in taken.items()}) for name in models}


def _maps(model: Any, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return what the pyramid of a detector reads for images of its own size."""
    with torch.inference_mode():
        batch = torch.stack(list(images)).contiguous(memory_format=torch.channels_last)
        return model.eval().backbone.body(batch)


def _seconds(do: Callable[[str], None], name: str, device: torch.device) -> float:
    began = time.perf_counter()
    do(name)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def ratio(times: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Compare the seconds of a work with those of the baseline in the same turns."""
    ratios = [ours / theirs for ours, theirs in zip(times, baseline, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Ratio(median=median, low=low, high=high, seconds=statistics.median(times))
