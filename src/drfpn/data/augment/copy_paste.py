"""Simple copy-paste augmentation (Ghiasi et al., CVPR 2021)."""

import torch
from torch import Tensor

from drfpn.data.base import Target
from drfpn.data.masks.boxes import tight_boxes

MIN_VISIBLE_FRACTION = 0.1
"""Fraction of an object's pixels that must remain visible for it to be kept."""


def copy_paste(image: Tensor, target: Target, source_image: Tensor, source_target: Target) -> tuple[Tensor, Target]:
    """Paste a random half of the objects of a source image into an image, in front of its objects.

    Objects of which a tenth or less remains visible are dropped; the masks and boxes of others are reduced to the
    visible part.

    Args:
        image: (3, H, W)
        target: target of ``image`` with masks.
        source_image: (3, H, W), of the same size.
        source_target: target of ``source_image`` with masks.

    Returns:
        The new image and target.
    """
    source_masks = source_target["masks"].bool()
    chosen = (torch.rand(len(source_masks)) < 0.5) & source_masks.flatten(1).any(1)
    pasted = source_masks[chosen].any(0)  # (H, W)
    image = torch.where(pasted, source_image, image)
    visible = target["masks"] * ~pasted
    area_before, area_after = target["masks"].flatten(1).sum(1), visible.flatten(1).sum(1)
    occluded = area_after < area_before
    keep = (area_after > MIN_VISIBLE_FRACTION * area_before) | ~occluded  # a mask may have been empty before
    reduced = occluded & keep
    boxes = target["boxes"].clone()
    boxes[reduced] = tight_boxes(visible[reduced])
    remaining = {"boxes": boxes, "masks": visible, **{key: target[key] for key in ("labels", "area", "iscrowd")}}
    remaining["area"] = torch.where(reduced, area_after.to(remaining["area"].dtype), remaining["area"])
    return image, target | {key: torch.cat([remaining[key][keep], source_target[key][chosen]]) for key in remaining}
