"""What a detector does with images of any size before its backbone sees them."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from drfpn.ops import opaque
from drfpn.utils import distributed


class Transform(GeneralizedRCNNTransform):
    """torchvision's transform, same numbers, in a form that ``torch.export`` can follow with any height and width.

    Sizes stay integers all the way, no side becomes 0, and masks are resized as the bytes they are.
    """

    resize_in_training = True
    """Off where training images come in the size that they are wanted in."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        """Resize an image (3, H, W) and its target: shorter side ``min_size``, longer at most ``max_size``."""
        if self.training and not self.resize_in_training:
            return image, target
        height, width = image.shape[-2:]
        # where there is a choice only: a number drawn for each image would depend on how many this process has
        shorter = self.torch_choice(self.min_size) if self.training and len(self.min_size) > 1 else self.min_size[-1]
        least, most = torch.sym_min(height, width), torch.sym_max(height, width)
        # in integers: where a quotient of floats rounds to just below a whole pixel depends on the runtime
        size = [
            torch.sym_max(1, torch.sym_min(side * shorter // least, side * self.max_size // most))
            for side in (height, width)
        ]
        image = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
        if target is None:
            return image, None
        target["boxes"] = rescale(target["boxes"], (height, width), size)
        if "masks" in target:
            target["masks"] = F.interpolate(target["masks"][:, None], size=size)[:, 0]
        return image, target

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """Pad images with zeros on the right and below to one size that ``size_divisible`` divides.

        In training that is the size of the batch of all processes: what a border is padded with reaches far inside.
        """
        largest = [
            functools.reduce(torch.sym_max, sides) for sides in zip(*(i.shape[-2:] for i in images), strict=True)
        ]
        if self.training:
            largest = distributed.all_reduce_max(largest)
        height, width = (
            opaque((side + size_divisible - 1) // size_divisible, 256) * size_divisible for side in largest
        )
        padded = [F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in images]
        return torch.stack(padded)


def rescale(boxes: Tensor, size: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Move boxes (D, 4) from an image of ``size`` (height, width) to one of the ``wanted`` size."""
    down, right = wanted[0] / size[0], wanted[1] / size[1]
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1 * right, y1 * down, x2 * right, y2 * down), dim=-1)
