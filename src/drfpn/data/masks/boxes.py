"""Boxes of masks."""

import torch
from torch import Tensor


def tight_boxes(masks: Tensor) -> Tensor:
    """Return the smallest boxes around masks; x2, y2 are exclusive, unlike torchvision's ``masks_to_boxes``.

    Args:
        masks: (N, H, W), none of them empty.

    Returns:
        (N, 4) x1, y1, x2, y2.
    """
    boxes = torch.zeros(len(masks), 4)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        box[:] = torch.stack([columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1])
    return boxes
