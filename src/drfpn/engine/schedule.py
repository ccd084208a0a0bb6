"""The learning rate as a pure function of the step, so that nothing of it can be lost in a checkpoint."""

from collections.abc import Sequence


def lr_factor(step: int, *, steps_per_epoch: int, warmup_steps: int, milestones: Sequence[int]) -> float:
    """Return what the learning rate is multiplied with at ``step``.

    Linear warm-up from 1/1000, as mmdetection does, then a tenth after each milestone.

    Args:
        step: optimizer steps done.
        steps_per_epoch: of the run.
        warmup_steps: length of the warm-up.
        milestones: epochs after which the rate drops.
    """
    warmup = 0.001 + 0.999 * step / warmup_steps if step < warmup_steps else 1.0
    return warmup * 0.1 ** sum(step >= milestone * steps_per_epoch for milestone in milestones)
