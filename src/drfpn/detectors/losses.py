"""What the second stage is trained by: the loss of its classes and of its boxes."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BoxLoss = Callable[[Tensor, Tensor], Tensor]
"""Deltas found and wanted, (P, 4) each -> their loss, summed."""


def smooth_l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Return torchvision's loss of deltas (P, 4): quadratic below 1/9."""
    return F.smooth_l1_loss(found, wanted, beta=1 / 9, reduction="sum")


def balanced_l1(found: Tensor, wanted: Tensor, alpha: float = 0.5, gamma: float = 1.5, beta: float = 1.0) -> Tensor:
    r"""Return Libra R-CNN's loss of deltas (P, 4) (Pang et al., CVPR 2019).

    With :math:`b = e^{\gamma / \alpha} - 1` its gradient is :math:`\alpha \ln(b |d| / \beta + 1)` below ``beta`` and
    ``gamma`` above: beside large errors, small ones pull harder than in a loss that is quadratic up to ``beta``.

    Args:
        found: deltas of the network.
        wanted: deltas of the objects.
        alpha: pull of small errors.
        gamma: pull of large ones.
        beta: where the two meet.
    """
    d = (found - wanted).abs()
    b = math.exp(gamma / alpha) - 1
    small = alpha / b * (b * d + 1) * torch.log(b * d / beta + 1) - alpha * d
    return torch.where(d < beta, small, gamma * d + gamma / b - alpha * beta).sum()


BOX_LOSSES: dict[str, BoxLoss] = {"smooth_l1": smooth_l1, "balanced_l1": balanced_l1}
"""Box losses of the second stage by name."""


def roi_losses(
    logits: Tensor, deltas: Tensor, labels: Sequence[Tensor], wanted: Sequence[Tensor], box_loss: BoxLoss
) -> tuple[Tensor, Tensor]:
    """Return the losses of classes and of boxes, both divided by the number of regions.

    Args:
        logits: (R, K + 1) of the regions of all images.
        deltas: (R, 4 (K + 1)), for each class.
        labels: an image (r,), 0 for the background.
        wanted: an image (r, 4), deltas of the objects that regions belong to.
        box_loss: of the regions that belong to one.
    """
    label = torch.cat(list(labels))
    positive = (label > 0).nonzero().squeeze(1)
    found = deltas.unflatten(1, (-1, 4))[positive, label[positive]]
    return F.cross_entropy(logits, label), box_loss(found, torch.cat(list(wanted))[positive]) / len(label)
