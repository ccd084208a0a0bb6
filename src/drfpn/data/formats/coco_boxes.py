"""Boxes of COCO's segmentations: for objects without a box, and to compare with those that have one."""

import math
from collections.abc import Sequence
from typing import Any

from drfpn.data.masks.rle import find_rle_fault, rle_to_box, to_rle

_TOLERANCE = 2.0
"""Pixels by which boxes may differ from those of their masks: tools round, and some count from 1."""


def mask_box(segmentation: Any) -> list[float] | None:
    """Return x, y, width and height in pixels of the smallest box around a segmentation; ``None`` if it is invalid.

    Args:
        segmentation: polygons, or RLE (compressed or not).
    """
    try:
        if isinstance(segmentation, dict):
            if find_rle_fault(segmentation, *segmentation["size"]) is not None:
                return None
            return rle_to_box(to_rle(segmentation, *segmentation["size"]))
        xs = [x for polygon in segmentation for x in polygon[::2]]
        ys = [y for polygon in segmentation for y in polygon[1::2]]
        x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
        box = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    return box if math.isfinite(sum(box)) else None


def find_contradiction(box: Sequence[float], segmentation: Any) -> str | None:
    """Return how a box contradicts the segmentation of its object; ``None`` if it does not.

    It does if the two do not meet, or if the box is that of the segmentation in another convention. Boxes that are
    larger or smaller than their masks are none: those of occluded objects may be.

    Args:
        box: x, y, width, height in pixels.
        segmentation: polygons, or RLE (compressed or not).
    """
    around = mask_box(segmentation)
    if around is None or not math.isfinite(sum(box)) or _is_near(box, around):
        return None
    x, y, width, height = around
    if (
        box[0] > x + width + _TOLERANCE
        or box[1] > y + height + _TOLERANCE
        or box[0] + box[2] < x - _TOLERANCE
        or box[1] + box[3] < y - _TOLERANCE
    ):
        return "does not meet its mask"
    conventions = {
        "x1, y1, x2, y2": [x, y, x + width, y + height],
        "center, width, height": [x + width / 2, y + height / 2, width, height],
        "y, x, height, width": [y, x, height, width],
    }
    for convention, numbers in conventions.items():
        if _is_near(box, numbers) and not _is_near(numbers, around, 2 * _TOLERANCE):
            return f"is that of its mask as {convention}"
    return None


def _is_near(a: Sequence[float], b: Sequence[float], tolerance: float = _TOLERANCE) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(a, b, strict=True))
