"""Anchor generator of all detectors: anchors are computed in float32 whatever the dtype of the levels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection import anchor_utils
from torchvision.models.detection.image_list import ImageList


class AnchorGenerator(anchor_utils.AnchorGenerator):
    """torchvision's anchor generator, always in float32.

    torchvision computes anchors in the dtype of the finest level, which is 16 bits wide under autocast: bfloat16 rounds
    coordinates above 1024 to multiples of 8, and the rounded anchors are cached for later float32 levels.

    Args:
        sizes: sides of the anchors of each level, pixels.
        aspect_ratios: height / width of the anchors of each level.
    """

    cell_anchors: list[Tensor]
    """(A, 4) of each level, centered at the origin."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors (A, 4) of all levels for each image of a batch; the images share one tensor."""
        anchors = torch.cat(self.per_level(feature_maps, image_list.tensors.shape[-2:]))
        return [anchors] * len(image_list.image_sizes)

    def per_level(self, levels: Sequence[Tensor], image_size: Sequence[int]) -> list[Tensor]:
        """Return the anchors (H * W * A, 4) of each level, x1, y1, x2, y2 in pixels of the padded batch.

        Args:
            levels: feature maps (N, C, H, W).
            image_size: height and width of the padded batch, pixels.
        """
        anchors = []
        for cell_anchors, level in zip(self._cell_anchors_on(levels[0].device), levels, strict=True):
            height, width = level.shape[-2:]
            y = torch.arange(height, device=level.device) * (image_size[0] // height)
            x = torch.arange(width, device=level.device) * (image_size[1] // width)
            y, x = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack((x, y, x, y), dim=-1)[:, :, None]  # (H, W, 1, 4)
            anchors.append((shifts + cell_anchors).reshape(-1, 4))
        return anchors

    def _cell_anchors_on(self, device: torch.device) -> list[Tensor]:
        """Return the cell anchors on ``device``, cached there so that a GPU waits for the copy only once."""
        if self.cell_anchors[0].device == device:
            return self.cell_anchors
        with torch.inference_mode(False):  # tensors of inference mode could not be used in training
            cell_anchors = [anchors.to(device) for anchors in self.cell_anchors]
        if not torch.compiler.is_compiling():
            self.cell_anchors = cell_anchors
        return cell_anchors
