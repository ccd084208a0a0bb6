"""AugFPN's parts of a detector: soft RoI selection and consistent supervision (Guo et al., CVPR 2020)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.ops._utils import convert_boxes_to_roi_format

from drfpn.detectors.losses import BoxLoss, roi_losses
from drfpn.detectors.roi_heads import RoIPool
from drfpn.necks.augfpn import LATERAL
from drfpn.necks.base import init_convs
from drfpn.ops import roi_align


class SoftRoIPool(RoIPool):
    """RoIAlign on all levels for every region: at each point they are added with weights between 0 and 1.

    The weights are predicted from what all levels show, so that no rule binds a region to a level by its size (soft
    RoI selection). It costs as many times RoIAlign as there are levels.

    Args:
        strides: of the levels, finest first; each twice the one before.
        output_size: side of the result.
        channels: width of the levels.
    """

    def __init__(self, strides: tuple[int, ...], output_size: int, channels: int) -> None:
        super().__init__(strides, output_size)
        self.channels = channels
        self.select = nn.Sequential(
            nn.Conv2d(len(strides) * channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, len(strides), 3, padding=1)
        )
        init_convs(self.select)

    def resized(self, output_size: int) -> "SoftRoIPool":
        """Return a pool of the same kind with weights of its own."""
        return SoftRoIPool(self.strides, output_size, self.channels)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Return (R, channels, output_size, output_size) of the boxes (R, 4) of all images, in pixels of the batch."""
        crops = [
            _crops(x[name], boxes, scale, self) for name, scale in zip(self.featmap_names, self.scales, strict=True)
        ]
        weights = self.select(torch.cat(crops, dim=1)).sigmoid()  # (R, levels, output_size, output_size)
        return sum(weights[:, i, None] * crop for i, crop in enumerate(crops))


def _crops(level: Tensor, boxes: list[Tensor], scale: float, like: RoIPool) -> Tensor:
    """Return what all boxes show of a level."""
    # as in RegionPool: half precision would move them, and a position that is no number leaves the memory
    regions = convert_boxes_to_roi_format(boxes).nan_to_num()
    return roi_align(level, regions, like.output_size[0], scale, like.sampling_ratio).to(level.dtype)


REGION_POOLS: dict[str, Callable[[tuple[int, ...], int, int], RoIPool]] = {
    "level": lambda strides, size, _: RoIPool(strides, size),
    "soft": SoftRoIPool,
}
"""By name, (strides, side, channels) -> pool: from the level of a region's size, or softly from all."""


class ConsistentSupervision(nn.Module):
    """A head of its own that learns from the laterals what the detector's head learns from the levels.

    It sees the same regions on every lateral and shares its weights between them, so that they come to mean alike
    before they are added. It has no part in detecting.

    Args:
        pool: tells strides and size.
        head: maps (R, channels, size, size) to features.
        predictor: maps these to class logits (R, K + 1) and deltas (R, 4 (K + 1)).
        weight: of the losses of each lateral (alpha).
    """

    def __init__(self, pool: RoIPool, head: nn.Module, predictor: nn.Module, weight: float) -> None:
        super().__init__()
        self.pool = RoIPool(pool.strides, *pool.output_size[:1])
        self.head = head
        self.predictor = predictor
        self.weight = weight

    def forward(
        self,
        features: dict[str, Tensor],
        regions: list[Tensor],
        labels: list[Tensor],
        wanted: list[Tensor],
        box_loss: BoxLoss,
    ) -> dict[str, Tensor]:
        """Return both losses of the regions (r, 4) of each image, summed over the laterals among ``features``."""
        terms = []
        for name, scale in zip(self.pool.featmap_names, self.pool.scales, strict=True):
            crops = _crops(features[LATERAL + name], regions, scale, self.pool)
            logits, deltas = self.predictor(self.head(crops))
            terms.append(torch.stack(roi_losses(logits.float(), deltas.float(), labels, wanted, box_loss)))
        classifier, box_reg = self.weight * torch.stack(terms).sum(dim=0)
        return {"loss_classifier_laterals": classifier, "loss_box_reg_laterals": box_reg}
