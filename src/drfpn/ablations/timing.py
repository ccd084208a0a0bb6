"""Training and inference times of several detectors, relative to a baseline."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from pydantic import AliasChoices, BaseModel, Field
from torch import Tensor
from torch.optim import SGD

from drfpn.detectors.base import DetectionModel
from drfpn.training.trial_step import random_target
from drfpn.utils.console import bar


class TimeRatio(BaseModel):
    """Time of a model divided by that of the baseline in the same turn."""

    median: float
    """Median over the turns."""
    low: float
    """Lower quartile over the turns."""
    high: float
    """Upper quartile over the turns."""
    seconds: float
    """Median time of the model."""


class RelativeTimes(BaseModel):
    """Times of a detector relative to the baseline."""

    training: TimeRatio
    """Training step of a batch: forward, backward, optimizer step."""
    inference: TimeRatio
    """Detection in a batch of images."""
    neck: TimeRatio = Field(validation_alias=AliasChoices("neck", "pyramid"))
    """Forward pass of the neck in inference, on the feature maps of a batch."""


def compare_times(
    models: Mapping[str, DetectionModel],
    *,
    size: tuple[int, int],
    batch_size: int = 1,
    turns: int = 7,
    objects: int = 8,
) -> dict[str, RelativeTimes]:
    """Time a training step, inference and the neck of each detector, on images of noise.

    In each turn all models are timed one after the other, so that a varying load of the machine affects all of them.
    A first turn warms up. Times depend on the number of detections: with random weights, two-stage detectors process
    the maximum number of proposals, and post-processing the maximum number of boxes.

    Args:
        models: detectors by name, on their device, with ``backbone.body`` and ``backbone.neck``; the first is the
            baseline.
        size: height and width of an image.
        batch_size: images of a batch.
        turns: timed turns.
        objects: objects of each image.

    Returns:
        The relative times by name.
    """
    device = next(next(iter(models.values())).parameters()).device
    images = [torch.rand(3, *size, device=device) for _ in range(batch_size)]
    targets = [random_target(*size, objects, device) for _ in range(batch_size)]
    optimizers = {
        name: SGD([p for p in model.parameters() if p.requires_grad], lr=1e-6) for name, model in models.items()
    }

    def train(name: str) -> None:
        model, optimizer = models[name].train(), optimizers[name]
        torch.stack(list(model(images, targets).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # so that only one model's gradients are in memory

    def infer(name: str) -> None:
        model = models[name].eval()
        with torch.inference_mode():
            model.detect(images)

    def fuse(name: str) -> None:
        backbone = models[name].eval().backbone
        with torch.inference_mode():
            backbone.neck(maps[name])

    maps = {name: _maps(model, images) for name, model in models.items()}
    seconds = _time_in_turns({"training": train, "inference": infer, "neck": fuse}, list(models), turns, device)
    first = next(iter(models))
    return {
        name: RelativeTimes(**{phase: time_ratio(times[name], times[first]) for phase, times in seconds.items()})
        for name in models
    }


def _time_in_turns(
    phases: Mapping[str, Callable[[str], None]], names: Sequence[str], turns: int, device: torch.device
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each turn, by phase and name."""
    seconds: dict[str, dict[str, list[float]]] = {phase: {name: [] for name in names} for phase in phases}
    with bar("timing", (turns + 1) * len(phases) * len(names)) as progress:
        for turn in range(turns + 1):
            for phase, run in phases.items():
                for name in names:
                    elapsed = _time(run, name, device)
                    if turn:
                        seconds[phase][name].append(elapsed)
                    progress.advance(name)
    return seconds


def _maps(model: DetectionModel, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the input of the neck of a detector."""
    with torch.inference_mode():
        batch = torch.stack(list(images)).contiguous(memory_format=torch.channels_last)
        return model.eval().backbone.body(batch)


def _time(run: Callable[[str], None], name: str, device: torch.device) -> float:
    start = time.perf_counter()
    run(name)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def time_ratio(times: Sequence[float], baseline: Sequence[float]) -> TimeRatio:
    """Divide times by those of the baseline in the same turns.

    Args:
        times: seconds of each turn.
        baseline: seconds of the baseline in each turn.
    """
    ratios = [ours / theirs for ours, theirs in zip(times, baseline, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return TimeRatio(median=median, low=low, high=high, seconds=statistics.median(times))
