"""Augmentation presets by name, made of torchvision's transforms v2."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from drfpn.data.augment.random_tile import RandomTile
from drfpn.data.base import Target

TransformFactory = Callable[[int, int], list[v2.Transform]]
"""(min_size, max_size) -> transforms."""

PADDING_GRAY = 127
"""Value of padded pixels, of 255."""


@dataclass(frozen=True)
class Preset:
    """Augmentation besides the horizontal flip."""

    transforms: TransformFactory
    resizes: bool = False
    """Whether images already have the size for training afterwards, so that the detector does not resize them."""
    copy_paste: bool = False
    """Whether objects of another image are pasted in afterwards, which needs masks."""


def _multiscale(min_size: int, max_size: int) -> list[v2.Transform]:
    """Choose the shorter side from 0.8 to 1 of ``min_size``, in steps of 0.04: 640 to 800 as in mmdetection."""
    sides = [round(min_size * percentage / 100) for percentage in range(80, 101, 4)]
    return [v2.RandomShortestSize(sides, max_size, antialias=False)]


def _large_scale_jitter(min_size: int, max_size: int) -> list[v2.Transform]:
    """Scale by 0.1 to 2 and crop or pad to a square (Ghiasi et al., CVPR 2021): 1024 px for 800 and 1333."""
    side = max(32, round((min_size * max_size) ** 0.5 / 32) * 32)
    fill: dict[Any, int] = {tv_tensors.Image: PADDING_GRAY, tv_tensors.Mask: 0, "others": 0}
    return [
        v2.ScaleJitter((side, side), (0.1, 2.0), antialias=False),
        v2.RandomCrop((side, side), pad_if_needed=True, fill=fill),
    ]


PRESETS: dict[str, Preset] = {
    "basic": Preset(lambda min_size, max_size: []),
    "photometric": Preset(lambda min_size, max_size: [v2.RandomPhotometricDistort(p=1.0)]),
    "multiscale": Preset(_multiscale, resizes=True),
    "lsj": Preset(_large_scale_jitter, resizes=True),
    "copy_paste": Preset(_large_scale_jitter, resizes=True, copy_paste=True),
}
"""``basic``: horizontal flip only, as in the paper. ``photometric``: brightness, contrast, saturation and hue as well.
``multiscale``: random sizes. ``lsj``: large scale jitter. ``copy_paste``: large scale jitter and copy-paste."""


def make_transform(name: str, *, hflip_prob: float, min_size: int, max_size: int, tile: int = 0) -> v2.Transform:
    """Return the transform of (image, target) of a preset.

    At the end boxes are clipped to the image, and those smaller than a pixel are dropped with their labels and masks.

    Args:
        name: a key of ``PRESETS``.
        hflip_prob: probability of a horizontal flip.
        min_size: shorter side of images in the detector, pixels.
        max_size: limit of the longer side, pixels.
        tile: side of the random tiles, pixels, that are cropped from larger images first; 0 for whole images.
    """
    return v2.Compose(
        [
            *([RandomTile(tile)] if tile else []),
            v2.RandomHorizontalFlip(hflip_prob),
            *PRESETS[name].transforms(min_size, max_size),
            v2.ToDtype(torch.float32, scale=True),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(min_size=1, labels_getter=_per_object_values),
        ]
    )


def _per_object_values(sample: tuple[Tensor, Target]) -> list[Tensor]:
    """Return the values with one entry for each box, which are dropped with it."""
    return [sample[1][key] for key in ("labels", "area", "iscrowd")]
