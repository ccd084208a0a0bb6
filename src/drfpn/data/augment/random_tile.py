"""``RandomTile``: a random tile of a large image, so that its small objects are not made smaller in training."""

import math
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from drfpn.data.base import Target
from drfpn.data.masks.boxes import tight_boxes

MIN_VISIBLE_FRACTION = 0.25
"""Part of an object's box that must be in the tile for the object to be kept."""

OBJECT_PROB = 0.5
"""Probability of a tile with an object in it; other tiles are anywhere, so that background is learned too."""


class RandomTile(v2.Transform):
    """Crop a random tile from an image that is larger; smaller images stay as they are.

    Boxes and masks are cut at the border. Objects of which less than a quarter of the box is in the tile are dropped.

    Args:
        size: side of the tile, pixels; tiles are smaller only where the image is.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, *inputs: Any) -> tuple[Tensor, Target]:
        """Return the tile of an image and the target of its objects.

        Args:
            inputs: image (3, H, W) and target, whose boxes and masks are of torchvision's ``tv_tensors``.
        """
        image, target = inputs
        height, width = image.shape[-2:]
        size = min(self.size, height), min(self.size, width)
        if size == (height, width):
            return image, target
        top, left = self._position(target["boxes"], (height, width), size)
        boxes = F.crop(target["boxes"], top, left, *size)
        area, visible_area = (_area(value) for value in (target["boxes"], boxes))
        keep = visible_area >= MIN_VISIBLE_FRACTION * area
        cut = (visible_area < area) & keep
        result = {key: value[keep] for key, value in target.items() if key not in ("boxes", "image_id", "masks")}
        if "masks" in target:
            masks = F.crop(target["masks"], top, left, *size)
            keep &= ~cut | masks.bool().flatten(1).any(dim=1)
            cut &= keep
            boxes[cut] = tight_boxes(masks[cut]).to(boxes.dtype)
            result = {key: target[key][keep] for key in result} | {"masks": tv_tensors.wrap(masks[keep], like=masks)}
        result |= {"boxes": tv_tensors.wrap(boxes[keep], like=boxes), "image_id": target["image_id"]}
        return F.crop(image, top, left, *size), {key: result[key] for key in target}

    def _position(self, boxes: Tensor, image_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """Return the top and left of a tile: half of the tiles contain a random object, as far as it fits."""
        box = [0.0, 0.0, float(image_size[1]), float(image_size[0])]
        if len(boxes) and torch.rand(()) < OBJECT_PROB:
            box = boxes[int(torch.randint(len(boxes), ()))].tolist()
        top = _random_start(image_size[0], size[0], box[1], box[3])
        return top, _random_start(image_size[1], size[1], box[0], box[2])


def _random_start(length: int, side: int, low: float, high: float) -> int:
    """Return where a tile begins that contains an interval or, if that is longer, is inside of it."""
    limits = [min(max(value, 0), length - side) for value in (math.ceil(high) - side, math.floor(low))]
    return int(torch.randint(min(limits), max(limits) + 1, ()))


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).as_subclass(Tensor).prod(dim=1)
