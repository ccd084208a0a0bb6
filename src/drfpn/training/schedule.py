"""Learning rate schedules as pure functions of the step, so that a resumed run needs no state of a scheduler."""

import math
from collections.abc import Callable, Mapping, Sequence


def step_decay(epochs: float, milestones: Sequence[float]) -> float:
    """Return the factor of a schedule that divides the learning rate by 10 at each milestone.

    Args:
        epochs: epochs since the start.
        milestones: epochs at which the learning rate drops.
    """
    return 0.1 ** sum(epochs >= milestone for milestone in milestones)


def cosine_decay(epochs: float, total: float) -> float:
    """Return the factor of cosine annealing, from 1 at the start to 0 at the end (Loshchilov and Hutter, 2017).

    Args:
        epochs: epochs since the start.
        total: epochs of the run.
    """
    return (1 + math.cos(math.pi * min(epochs / total, 1.0))) / 2


LR_SCHEDULES: Mapping[str, Callable[[float, float, Sequence[float]], float]] = {
    "step": lambda epochs, total, milestones: step_decay(epochs, milestones),
    "cosine": lambda epochs, total, milestones: cosine_decay(epochs, total),
}
"""Schedules by name: (epochs since the start, epochs of the run, milestones) -> factor."""


def lr_factor(
    step: int,
    *,
    steps_per_epoch: int,
    warmup_steps: int,
    epochs: int,
    milestones: Sequence[int] = (),
    schedule: str = "step",
) -> float:
    """Return the factor of the learning rate at a step: linear warm-up from 1/1000, as in mmdetection, times a decay.

    Args:
        step: number of optimizer steps before this one.
        steps_per_epoch: optimizer steps of an epoch.
        warmup_steps: length of the warm-up.
        epochs: epochs of the run.
        milestones: epochs after which the learning rate drops, for ``"step"``.
        schedule: ``"step"`` or ``"cosine"``.
    """
    warmup = 0.001 + 0.999 * step / warmup_steps if step < warmup_steps else 1.0
    return warmup * LR_SCHEDULES[schedule](step / steps_per_epoch, epochs, milestones)
