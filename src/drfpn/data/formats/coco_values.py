"""Values of COCO's records: ids, boxes, areas, rotations."""

import math
import re
from typing import Any

from drfpn.data.masks.rle import area as mask_area
from drfpn.data.masks.rle import to_rle

_MAX_CANVAS = 2**26
"""Pixels up to which polygons are drawn for their area."""


class IdParser:
    """Parses the ids of one field: whole numbers, or strings of digits (as VIA writes) if all of them are."""

    def __init__(self) -> None:
        self._strings: bool | None = None

    def __call__(self, value: Any) -> int | None:
        """Return an id, or ``None`` if it is invalid or of another type than those before."""
        is_string = isinstance(value, str)
        if is_string:
            number = int(value) if value.isascii() and value.isdigit() and len(value) <= 18 else None
        else:
            number = integer(value)
        if number is None:
            return None
        if self._strings is None:
            self._strings = is_string
        return number if self._strings is is_string else None


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_number(value: Any) -> Any:
    """Return the number that a string of one holds, such as "12.5"; other values as they are.

    Args:
        value: JSON value.
    """
    is_text = isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+(\.\d*)?([eE][+-]?\d+)?\s*", value, re.ASCII)
    return float(value) if is_text else value


def to_float(value: float) -> float:
    """Return a number as a float; infinity for an integer that is too large for one."""
    try:
        return float(value)
    except OverflowError:  # JSON has integers of any length
        return math.inf


def integer(value: Any) -> int | None:
    """Return a whole number that fits 64 bits as an int (some tools write 17.0), else ``None``."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        return None
    return value


def is_implausible_area(area: float, width: float, height: float, *, has_mask: bool) -> bool:
    """Return whether an area cannot be that of an object in its box: a placeholder, or that of the whole image.

    Args:
        area: pixels.
        width: width of the box in pixels.
        height: height of the box in pixels.
        has_mask: whether the object has a segmentation, whose area may be much smaller than that of the box.
    """
    box_area = width * height
    if not (width > 0 and height > 0 and math.isfinite(box_area)):
        return False  # the box is an issue of its own
    if not area > 0 or area > 1.01 * (width + 1) * (height + 1):
        return True
    return box_area >= 4 and (area == 1 or (area < 1 and not has_mask))


def object_area(box: list[float], segmentation: Any) -> float:
    """Return the area of an object in pixels: that of its mask, or of its box without a valid mask.

    Args:
        box: x, y, width, height in pixels.
        segmentation: polygons, RLE, or ``None``.
    """
    x, y, width, height = box
    if not math.isfinite(sum(box)):
        return width * height
    canvas = math.ceil(y + height) + 1, math.ceil(x + width) + 1
    try:
        if isinstance(segmentation, dict):
            pixels = mask_area(segmentation, *segmentation["size"])
        elif segmentation and min(canvas) > 0 and canvas[0] * canvas[1] <= _MAX_CANVAS:
            pixels = mask_area(to_rle(segmentation, *canvas), *canvas)
        else:
            pixels = 0
    except (TypeError, ValueError, KeyError):
        pixels = 0
    return float(pixels) or width * height


def has_rotation(record: dict[str, Any]) -> bool:
    """Return whether CVAT's attributes rotate the box of an object without a segmentation.

    Args:
        record: annotation.
    """
    attributes = record.get("attributes")
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    if rotation is None or not is_number(rotation) or not math.isfinite(rotation) or record.get("segmentation"):
        return False
    return 0.01 < rotation % 180 < 179.99


def some(values: Any, count: int = 8) -> str:
    """Return the first values as a list for messages."""
    names = [str(value) for value in list(values)[:count]]
    return ", ".join(names) + (", ..." if len(values) > count else "") if names else "none"


def short(value: Any) -> str:
    """Return the representation of a value, cut for messages."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
