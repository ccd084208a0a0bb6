"""Pasting objects of one image into another (simple copy-paste: Ghiasi et al., CVPR 2021)."""

import torch
from torch import Tensor

from drfpn.data.base import Target
from drfpn.data.synthetic.shapes import mask_boxes

VISIBLE = 0.1
"""Least share of an object's pixels that must stay visible for it to stay an object."""


def paste(image: Tensor, target: Target, other: Tensor, theirs: Target) -> tuple[Tensor, Target]:
    """Paste a random half of the objects of ``other`` into ``image``, in front of what is there.

    Objects that are covered but for a tenth are dropped, masks and boxes of others cut to what is still visible.

    Args:
        image: (3, H, W)
        target: with masks.
        other: (3, H, W), of the same size.
        theirs: its target, with masks.

    Returns:
        The new image and target.
    """
    shapes = theirs["masks"].bool()
    chosen = (torch.rand(len(shapes)) < 0.5) & shapes.flatten(1).any(1)
    front = shapes[chosen].any(0)  # (H, W)
    image = torch.where(front, other, image)
    visible = target["masks"] * ~front
    before, after = target["masks"].flatten(1).sum(1), visible.flatten(1).sum(1)
    touched = after < before
    kept = (after > VISIBLE * before) | ~touched  # a mask may have been empty before
    boxes = target["boxes"].clone()
    cut = touched & kept
    boxes[cut] = mask_boxes(visible[cut])
    mine = {"boxes": boxes, "masks": visible, **{key: target[key] for key in ("labels", "area", "iscrowd")}}
    mine["area"] = torch.where(cut, after.to(mine["area"].dtype), mine["area"])
    joined = {key: torch.cat([mine[key][kept], theirs[key][chosen]]) for key in mine}
    return image, target | joined
