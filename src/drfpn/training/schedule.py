"""The learning rate as a pure function of the step, so that nothing of it can be lost in a checkpoint."""

import math
from collections.abc import Callable, Mapping, Sequence


def in_steps(epochs: float, milestones: Sequence[float]) -> float:
    """Return a tenth for each milestone passed."""
    return 0.1 ** sum(epochs >= milestone for milestone in milestones)


def cosine(epochs: float, total: float) -> float:
    """Return half a wave, from 1 at the start to 0 at the end."""
    return (1 + math.cos(math.pi * min(epochs / total, 1.0))) / 2


DECAYS: Mapping[str, Callable[[float, float, Sequence[float]], float]] = {
    "step": lambda epochs, total, milestones: in_steps(epochs, milestones),
    "cosine": lambda epochs, total, milestones: cosine(epochs, total),
}
"""By name, (epochs done, their number, milestones) -> factor."""


def lr_factor(
    step: int,
    *,
    steps_per_epoch: int,
    warmup_steps: int,
    epochs: int,
    milestones: Sequence[int] = (),
    decay: str = "step",
) -> float:
    """Return what the learning rate is multiplied with at ``step``.

    Linear warm-up from 1/1000, as mmdetection does, times the decay.

    Args:
        step: optimizer steps done.
        steps_per_epoch: of the run.
        warmup_steps: length of the warm-up.
        epochs: of the run.
        milestones: epochs after which the rate drops, for ``"step"``.
        decay: ``"step"`` or ``"cosine"``.
    """
    warmup = 0.001 + 0.999 * step / warmup_steps if step < warmup_steps else 1.0
    return warmup * DECAYS[decay](step / steps_per_epoch, epochs, milestones)
