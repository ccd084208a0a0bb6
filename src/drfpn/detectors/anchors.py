"""Where anchors lie: made in one place for training and evaluation, in float32 whatever the levels are."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection import anchor_utils
from torchvision.models.detection.image_list import ImageList


class AnchorGenerator(anchor_utils.AnchorGenerator):
    """torchvision's anchors, always in float32.

    torchvision makes them in the dtype of the finest level, which has 16 bits under autocast: bfloat16 rounds what is
    larger than 1024 to multiples of 8, and its rounded anchors stay when later levels are float32.
    """

    cell_anchors: list[Tensor]
    """(A, 4) of each level, around the origin."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors (A, 4) of all levels for each image of a batch; those of all images are one tensor."""
        anchors = torch.cat(self.of_levels(feature_maps, image_list.tensors.shape[-2:]))
        return [anchors] * len(image_list.image_sizes)

    def of_levels(self, levels: Sequence[Tensor], image_size: Sequence[int]) -> list[Tensor]:
        """Return the anchors (H * W * A, 4) of each level, x1, y1, x2, y2 in pixels of the batch.

        Args:
            levels: maps (N, channels, H, W).
            image_size: height and width of the batch, pixels.
        """
        anchors = []
        for around, level in zip(self._around(levels[0].device), levels, strict=True):
            height, width = level.shape[-2:]
            y = torch.arange(height, device=level.device) * (image_size[0] // height)
            x = torch.arange(width, device=level.device) * (image_size[1] // width)
            y, x = torch.meshgrid(y, x, indexing="ij")
            points = torch.stack((x, y, x, y), dim=-1)[:, :, None]  # (H, W, 1, 4)
            anchors.append((points + around).reshape(-1, 4))
        return anchors

    def _around(self, device: torch.device) -> list[Tensor]:
        """Return the anchors around the origin on a device, kept there so that a GPU waits for them once."""
        if self.cell_anchors[0].device == device:
            return self.cell_anchors
        with torch.inference_mode(False):  # those of inference mode could not be used in training
            around = [anchors.to(device) for anchors in self.cell_anchors]
        if not torch.compiler.is_compiling():
            self.cell_anchors = around
        return around
