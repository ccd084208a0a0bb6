"""Classification and box losses of the RoI heads."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BoxLoss = Callable[[Tensor, Tensor], Tensor]
"""(predicted deltas (P, 4), target deltas (P, 4)) -> loss, summed."""


def smooth_l1(preds: Tensor, targets: Tensor) -> Tensor:
    """Return the summed smooth L1 loss of deltas (P, 4) with beta = 1/9, as in torchvision."""
    return F.smooth_l1_loss(preds, targets, beta=1 / 9, reduction="sum")


def balanced_l1(preds: Tensor, targets: Tensor, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0) -> Tensor:
    r"""Return the summed balanced L1 loss of deltas (Pang et al., Libra R-CNN, CVPR 2019).

    With :math:`b = e^{\gamma / \alpha} - 1` the gradient is :math:`\alpha \ln(b |d| / \beta + 1)` below ``beta`` and
    ``gamma`` above. Compared with smooth L1, small errors have larger gradients relative to large ones.

    Args:
        preds: predicted deltas (P, 4).
        targets: target deltas (P, 4).
        alpha: scale of the gradient of small errors.
        gamma: gradient of large errors.
        beta: error at which the two branches meet.
    """
    d = (preds - targets).abs()
    b = math.exp(gamma / alpha) - 1
    small = alpha / b * (b * d + 1) * torch.log(b * d / beta + 1) - alpha * d
    return torch.where(d < beta, small, gamma * d + gamma / b - alpha * beta).sum()


BOX_LOSSES: dict[str, BoxLoss] = {"smooth_l1": smooth_l1, "balanced_l1": balanced_l1}
"""Box losses of the RoI heads by name."""


def roi_losses(
    logits: Tensor, deltas: Tensor, labels: Sequence[Tensor], regression_targets: Sequence[Tensor], box_loss: BoxLoss
) -> tuple[Tensor, Tensor]:
    """Return the classification loss and the box loss, both divided by the number of RoIs.

    Args:
        logits: (R, K + 1) of the RoIs of all images, background first.
        deltas: (R, 4 (K + 1)) for each class.
        labels: (r,) per image, 0 for the background.
        regression_targets: (r, 4) per image, deltas from the RoIs to their ground-truth boxes.
        box_loss: applied to the deltas of the positive RoIs.
    """
    label = torch.cat(list(labels))
    positive = (label > 0).nonzero().squeeze(1)
    preds = deltas.unflatten(1, (-1, 4))[positive, label[positive]]
    return F.cross_entropy(logits, label), box_loss(preds, torch.cat(list(regression_targets))[positive]) / len(label)
