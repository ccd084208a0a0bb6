"""Costs of a detector by neck: parameters, multiply-adds, time, memory."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel

from drfpn.ablations.peak_memory import PeakMemory, peak_memory
from drfpn.ablations.plan import PlannedRun
from drfpn.ablations.timing import RelativeTimes, compare_times
from drfpn.detectors import build_detector
from drfpn.detectors.base import Detector
from drfpn.evaluation.flops import model_complexity, published_macs
from drfpn.training.config import RunConfig
from drfpn.utils.console import bar


class Cost(BaseModel):
    """Costs of a detector."""

    params: int
    """Trainable parameters."""
    macs: int
    """Multiply-adds for one image."""
    published_macs: int
    """Multiply-adds as the paper counts them."""
    height: int
    """Height of the image in pixels."""
    width: int
    """Width of the image in pixels."""
    times: RelativeTimes | None = None
    memory: PeakMemory | None = None


def measure_costs(
    runs: Sequence[PlannedRun],
    num_classes: int,
    *,
    device: torch.device,
    turns: int,
    size: tuple[int, int] | None = None,
    batch_size: int | None = None,
) -> dict[str, Cost]:
    """Measure parameters, multiply-adds, time relative to the first run, and peak memory of the detectors of some runs.

    Args:
        runs: one run of each row, the baseline first.
        num_classes: foreground classes.
        device: device to time on.
        turns: timed turns; 0 for neither time nor memory.
        size: height and width of the image; ``None`` for the shorter side of the runs' settings, in a ratio of 3 to 4.
        batch_size: images of a timed batch; ``None`` for one at the paper's scale, else the batch size of the runs.

    Returns:
        The costs by row.
    """
    config = runs[0].config
    height, width = size or (config.min_size, min(config.max_size, config.min_size * 4 // 3))
    models = {run.row: _detector(run.config, num_classes, (height, width)) for run in runs}
    costs = {}
    for row, model in models.items():
        counts = model_complexity(model, height, width)
        costs[row] = Cost(
            params=counts.trainable_params,
            macs=counts.macs,
            published_macs=published_macs(model, height, width),
            height=height,
            width=width,
        )
    if turns:
        batch_size = batch_size or (1 if config.scale == "paper" else config.batch_size)
        on_device = {row: model.to(device, memory_format=torch.channels_last) for row, model in models.items()}  # type: ignore[call-overload]
        times = compare_times(on_device, size=(height, width), batch_size=batch_size, turns=turns)
        del models, on_device
        with bar("memory", len(runs)) as progress:
            for run in runs:
                build = partial(_detector, run.config, num_classes, (height, width))
                peak = peak_memory(build, (height, width), batch_size, device)
                costs[run.row] = costs[run.row].model_copy(update={"times": times[run.row], "memory": peak})
                progress.advance(run.row)
    return costs


def _detector(config: RunConfig, num_classes: int, size: tuple[int, int]) -> Detector:
    """Build a detector with random weights; BatchNorm uses batch statistics, which keeps its maps finite."""
    options: Mapping[str, Any] = dict(config.detector_options) | {"min_size": min(size), "max_size": max(size)}
    return build_detector(
        config.model,
        num_classes,
        neck_options=config.neck_options,
        width=config.width,
        frozen_stages=config.frozen_stages,
        norm_eval=False,
        **options,
    )
