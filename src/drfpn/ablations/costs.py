"""What a pyramid costs beside the baseline: parameters, multiply-adds, time, memory."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from drfpn.ablations.peak_memory import Memory, peak_memory
from drfpn.ablations.plan import Planned
from drfpn.ablations.timing import Times, compare_times
from drfpn.detectors import build_detector
from drfpn.evaluation.flops import count, published_macs
from drfpn.training.config import RunConfig
from drfpn.utils.console import bar


class Cost(BaseModel):
    """Of a detector with one of the pyramids."""

    params: int
    """That learn."""
    macs: int
    """True multiply-adds of an image."""
    published_macs: int
    """As the paper's counter has them."""
    height: int
    width: int
    """Of that image."""
    times: Times | None = None
    memory: Memory | None = None


def measure_costs(
    runs: Sequence[Planned],
    classes: int,
    *,
    device: torch.device,
    turns: int,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
) -> dict[str, Cost]:
    """Count the detectors of some runs, time them against the first and measure the memory of each.

    Args:
        runs: one a row, the baseline first.
        classes: foreground classes.
        device: where to time.
        turns: of the timing; 0 for neither time nor memory.
        batch: images at once when timed; ``None`` for one at the paper's scale, else those of a step.
        size: height and width; ``None`` for the smaller size of the runs' settings, 4 to 3.
    """
    config = runs[0].config
    height, width = size or (config.min_size, min(config.max_size, config.min_size * 4 // 3))
    models = {run.row: _detector(run.config, classes, (height, width)) for run in runs}
    costs = {}
    for row, model in models.items():
        counts = count(model, height, width)
        costs[row] = Cost(
            params=counts.trainable_params,
            macs=counts.macs,
            published_macs=published_macs(model, height, width),
            height=height,
            width=width,
        )
    if turns:
        batch = batch or (1 if config.scale == "paper" else config.batch_size)
        on_device = {row: model.to(device, memory_format=torch.channels_last) for row, model in models.items()}  # type: ignore[call-overload]
        times = compare_times(on_device, size=(height, width), batch=batch, turns=turns)
        del models, on_device
        with bar("memory", len(runs)) as progress:
            for run in runs:
                build = partial(_detector, run.config, classes, (height, width))
                peak = peak_memory(build, (height, width), batch, device)
                costs[run.row] = costs[run.row].model_copy(update={"times": times[run.row], "memory": peak})
                progress.advance(run.row)
    return costs


def _detector(config: RunConfig, classes: int, size: tuple[int, int]) -> nn.Module:
    """Build a detector at random; its BatchNorm takes the batch's statistics, else nothing stays finite."""
    options: Mapping[str, Any] = dict(config.detector_options) | {"min_size": min(size), "max_size": max(size)}
    return build_detector(
        config.model,
        classes,
        neck_options=config.neck_options,
        width=config.width,
        frozen_stages=config.frozen_stages,
        norm_eval=False,
        **options,
    )
