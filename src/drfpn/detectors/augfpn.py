"""AugFPN in a detector: soft RoI selection and consistent supervision (Guo et al., CVPR 2020, arXiv:1912.05384)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drfpn.detectors.backbone_with_neck import BackboneWithNeck
from drfpn.detectors.losses import BoxLoss, roi_losses
from drfpn.detectors.roi_heads import RoIPool, boxes_to_rois
from drfpn.necks import AugFPN
from drfpn.necks.base import Level
from drfpn.necks.layers.convs import init_convs


class SoftRoIPool(RoIPool):
    """Soft RoI selection: pools every RoI from all levels and adds the results with predicted weights.

    The weights, between 0 and 1 at each point, are predicted from the pooled features of all levels, in place of the
    rule that assigns an RoI to one level by its size. The cost is that of RoIAlign times the number of levels.

    Args:
        levels: names and strides of the levels, finest first; each stride is twice the one before.
        output_size: height and width of the pooled features.
        channels: channels of the levels.
    """

    def __init__(self, levels: Sequence[Level], output_size: int, channels: int) -> None:
        super().__init__(levels, output_size)
        self.channels = channels
        self.select = nn.Sequential(
            nn.Conv2d(len(levels) * channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, len(levels), 3, padding=1)
        )
        init_convs(self.select)

    @property
    def selector(self) -> nn.Module:
        """Module that predicts the weights (R, levels, output_size, output_size) of the levels before the sigmoid."""
        return self.select

    def with_output_size(self, output_size: int) -> "SoftRoIPool":
        """Return a new pool with another output size and parameters of its own."""
        return SoftRoIPool(self.levels, output_size, self.channels)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pool the features of the RoIs of a batch, see :meth:`RoIPool.forward`."""
        rois = boxes_to_rois(boxes)
        crops = [
            self.pool_level(x[name], rois, scale) for name, scale in zip(self.featmap_names, self.scales, strict=True)
        ]
        weights = self.select(torch.cat(crops, dim=1)).sigmoid()  # (R, levels, output_size, output_size)
        return sum(weights[:, i, None] * crop for i, crop in enumerate(crops))


ROI_POOLS: dict[str, Callable[[Sequence[Level], int, int], RoIPool]] = {
    "level": lambda levels, size, _: RoIPool(levels, size),
    "soft": SoftRoIPool,
}
"""RoI pools by name, (levels, output size, channels) -> pool: from the level of the RoI's size, or from all levels."""


class LevelsWithLaterals(dict[str, Tensor]):
    """The levels of a neck by name, with its laterals beside them, which the RPN and the RoI pools do not read.

    Args:
        levels: the output levels by name.
        laterals: the laterals by the names of the backbone's maps.
    """

    def __init__(self, levels: Mapping[str, Tensor], laterals: Mapping[str, Tensor]) -> None:
        super().__init__(levels)
        self.laterals = dict(laterals)


class BackboneWithLaterals(BackboneWithNeck):
    """A backbone with AugFPN that in training returns the laterals too, for :class:`ConsistentSupervision`.

    Args:
        body: the backbone.
        neck: its AugFPN.
        out_channels: width of the levels.
    """

    neck: AugFPN

    def __init__(self, body: Any, neck: AugFPN, out_channels: int) -> None:
        super().__init__(body, neck, out_channels)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the levels of a batch (N, 3, H, W) by name; in training a :class:`LevelsWithLaterals`."""
        if not self.training:
            return super().forward(image)
        return LevelsWithLaterals(*self.neck.forward_with_laterals(self.body(image)))


class ConsistentSupervision(nn.Module):
    """Consistent supervision: an auxiliary box head that is trained on the laterals with the RoIs of the detector.

    Its parameters are shared by all laterals, so that their features become similar before they are fused. It is not
    used in inference.

    Args:
        pool: RoI pool whose levels and output size are used.
        head: maps pooled features (R, C, size, size) to feature vectors.
        predictor: maps these to class logits (R, K + 1) and deltas (R, 4 (K + 1)).
        weight: weight of the losses of each lateral (alpha in the paper).
    """

    def __init__(self, pool: RoIPool, head: nn.Module, predictor: nn.Module, weight: float) -> None:
        super().__init__()
        self.pool = RoIPool(pool.levels, *pool.output_size[:1])
        self.head = head
        self.predictor = predictor
        self.weight = weight

    def forward(
        self,
        features: LevelsWithLaterals,
        rois: list[Tensor],
        labels: list[Tensor],
        regression_targets: list[Tensor],
        box_loss: BoxLoss,
    ) -> dict[str, Tensor]:
        """Compute the losses, summed over the laterals.

        Args:
            features: levels of the neck, with its laterals.
            rois: (r, 4) per image, pixels of the padded batch.
            labels: (r,) per image, 0 for the background.
            regression_targets: (r, 4) per image, deltas to the ground-truth boxes.
            box_loss: loss of the deltas of positive RoIs.
        """
        batch_rois = boxes_to_rois(rois)
        terms = []
        for name, scale in zip(self.pool.featmap_names, self.pool.scales, strict=True):
            crops = self.pool.pool_level(features.laterals[name], batch_rois, scale)
            logits, deltas = self.predictor(self.head(crops))
            terms.append(torch.stack(roi_losses(logits.float(), deltas.float(), labels, regression_targets, box_loss)))
        classifier, box_reg = self.weight * torch.stack(terms).sum(dim=0)
        return {"loss_classifier_laterals": classifier, "loss_box_reg_laterals": box_reg}
