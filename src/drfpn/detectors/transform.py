"""Resizing, normalization and batching of images before the backbone."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from drfpn.ops import unbacked_size
from drfpn.utils import distributed


class Transform(GeneralizedRCNNTransform):
    """torchvision's transform with equal results, in a form that ``torch.export`` traces with dynamic height and width.

    Sizes stay integers throughout, no side becomes 0, and masks are resized as uint8.

    Args:
        min_size: length of the shorter side after resizing, pixels; one of several is drawn in training.
        max_size: largest length of the longer side, pixels.
        image_mean: of each channel, for images in [0, 1].
        image_std: of each channel.
    """

    resize_in_training = True
    """Set to ``False`` where the data set already yields training images of their final size."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        """Resize an image (3, H, W) and its target: shorter side ``min_size``, longer side at most ``max_size``."""
        if self.training and not self.resize_in_training:
            return image, target
        height, width = image.shape[-2:]
        # drawn only from several sizes: one draw per image would depend on how many images this process has
        shorter = self.torch_choice(self.min_size) if self.training and len(self.min_size) > 1 else self.min_size[-1]
        min_side, max_side = torch.sym_min(height, width), torch.sym_max(height, width)
        # integer arithmetic: which way a float quotient near a whole pixel is rounded depends on the runtime
        size = [
            torch.sym_max(1, torch.sym_min(side * shorter // min_side, side * self.max_size // max_side))
            for side in (height, width)
        ]
        image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
        if target is None:
            return image, None
        target["boxes"] = resize_boxes(target["boxes"], (height, width), size)
        if "masks" in target:
            target["masks"] = F.interpolate(target["masks"][:, None], size=size)[:, 0]
        return image, target

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """Pad images with zeros on the right and at the bottom to a common size divisible by ``size_divisible``.

        In training the size is that of the batch over all processes, since padding changes features far from it.
        """
        largest = [
            functools.reduce(torch.sym_max, sides) for sides in zip(*(i.shape[-2:] for i in images), strict=True)
        ]
        if self.training:
            largest = distributed.all_reduce_max(largest)
        height, width = (
            unbacked_size((side + size_divisible - 1) // size_divisible, 256) * size_divisible for side in largest
        )
        padded = [F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in images]
        return torch.stack(padded)


def resize_boxes(boxes: Tensor, size: Sequence[int], new_size: Sequence[int]) -> Tensor:
    """Scale boxes (D, 4) from an image of ``size`` (height, width) to one of ``new_size``."""
    y_scale, x_scale = new_size[0] / size[0], new_size[1] / size[1]
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1 * x_scale, y1 * y_scale, x2 * x_scale, y2 * y_scale), dim=-1)
