"""What may happen to an image before training sees it, by name, on torchvision's transforms v2."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from drfpn.data.base import Target

Make = Callable[[int, int], list[v2.Transform]]
"""(shorter side, longest longer side) -> transforms."""

GREY = 127
"""What an image is padded with, of 255."""


@dataclass(frozen=True)
class Preset:
    """What happens besides a flip."""

    make: Make
    sized: bool = False
    """Whether images leave it in the size they are trained at, so that the detector does not resize them."""
    pastes: bool = False
    """Whether objects of another image, which need masks, are pasted in afterwards."""


def _multiscale(min_size: int, max_size: int) -> list[v2.Transform]:
    """Draw the shorter side from 0.8 to 1 of the full one, in steps of 0.04: 640 to 800 as mmdetection does."""
    sides = [round(min_size * percent / 100) for percent in range(80, 101, 4)]
    return [v2.RandomShortestSize(sides, max_size, antialias=False)]


def _large_scale_jitter(min_size: int, max_size: int) -> list[v2.Transform]:
    """Scale by 0.1 to 2 and cut or pad to a square (Ghiasi et al., CVPR 2021): 1024 px for 800 and 1333."""
    side = max(32, round((min_size * max_size) ** 0.5 / 32) * 32)
    fill: dict[Any, int] = {tv_tensors.Image: GREY, tv_tensors.Mask: 0, "others": 0}
    return [
        v2.ScaleJitter((side, side), (0.1, 2.0), antialias=False),
        v2.RandomCrop((side, side), pad_if_needed=True, fill=fill),
    ]


PRESETS: dict[str, Preset] = {
    "basic": Preset(lambda min_size, max_size: []),
    "photometric": Preset(lambda min_size, max_size: [v2.RandomPhotometricDistort(p=1.0)]),
    "multiscale": Preset(_multiscale, sized=True),
    "lsj": Preset(_large_scale_jitter, sized=True),
    "copy_paste": Preset(_large_scale_jitter, sized=True, pastes=True),
}
"""``basic``: a flip alone, as in the paper. ``photometric``: brightness, contrast, saturation and hue as well.
``multiscale``: of several sizes. ``lsj``: large scale jitter. ``copy_paste``: that, and objects of another image."""


def make_transform(name: str, *, flip: float, min_size: int, max_size: int) -> v2.Transform:
    """Return the transform of (image, target) that a preset names.

    Boxes are clipped to the image in the end, and those under a pixel are dropped, with all that belongs to them.

    Args:
        name: a key of ``PRESETS``.
        flip: probability of a horizontal flip.
        min_size: shorter side that the detector works at, pixels.
        max_size: longest longer side, pixels.
    """
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(flip),
            *PRESETS[name].make(min_size, max_size),
            v2.ToDtype(torch.float32, scale=True),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(min_size=1, labels_getter=_per_object),
        ]
    )


def _per_object(sample: tuple[Tensor, Target]) -> list[Tensor]:
    """Name what has one entry for each box and loses it together with the box."""
    return [sample[1][key] for key in ("labels", "area", "iscrowd")]
