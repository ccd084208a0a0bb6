"""Shapes of LabelMe: their boxes and segmentations."""

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drfpn.data.masks.polygons import signed_area
from drfpn.data.masks.rle import decode, encode
from drfpn.data.validation.issues import Issue, IssueHandler

_CIRCLE_CORNERS = 64

_NO_GROUP = (None, "", -1, "-1", "null")
"""Values of ``group_id`` that tools write for a shape without a group."""
_POLYGONS = ("polygon", "rotation", "oriented_rectangle")
_WITHOUT_AREA = ("point", "points", "line", "linestrip")
_NUMBERS_OF_POINTS = {"rectangle": (2, 4), "circle": (2,), "mask": (2,)}


@dataclass(frozen=True)
class Shape:
    """One object: a shape, or all shapes of a group."""

    label: str
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels."""
    area: float
    polygons: tuple[list[float], ...] = ()
    """x, y, x, y, ... of the outlines."""
    mask: dict[str, Any] | None = None
    """Run-length encoding, instead of polygons."""
    is_rectangle: bool = False
    """Whether it has no outline but its box."""

    @property
    def segmentation(self) -> Any:
        """The segmentation in COCO's format; ``None`` for a rectangle."""
        if self.is_rectangle:
            return None
        return self.mask if self.mask is not None else list(self.polygons)


def read_shapes(record: dict[str, Any], size: tuple[int, int], source: str, on_issue: IssueHandler) -> list[Shape]:
    """Return the objects of a LabelMe record; shapes of one label and ``group_id`` are parts of one object.

    Args:
        record: the JSON object.
        size: (height, width) of the image; (0, 0) if unknown.
        source: the file, for messages.
        on_issue: called with each shape that is left out: a point or line without harm, else as a fault.
    """
    objects: dict[tuple[str, Any], Shape] = {}
    for number, (value, shape) in enumerate(_shapes(record, size, source, on_issue)):
        group = value.get("group_id")
        key = shape.label, ("alone", number) if group in _NO_GROUP else str(group)
        if key not in objects:
            objects[key] = shape
            continue
        if shape.is_rectangle and objects[key].is_rectangle and not _overlap(objects[key], shape):
            observed = f"two rectangles of '{shape.label}' that do not overlap have the 'group_id' {group}: one object"
            on_issue(Issue("shapes-far-apart", source, observed, "a group_id for each object, or null", fatal=False))
        objects[key] = _merge(objects[key], shape, size)
    return list(objects.values())


def _shapes(
    record: dict[str, Any], size: tuple[int, int], source: str, on_issue: IssueHandler
) -> Iterator[tuple[dict[str, Any], Shape]]:
    shapes = record["shapes"]
    if not isinstance(shapes, list):
        on_issue(Issue("bad-record", source, "its 'shapes' is not a list", "a list of shapes"))
        return
    for number, value in enumerate(shapes, start=1):
        label = label_of(value)
        location = f"{source}: shape {number} ({label or 'without a label'})"
        if label is None:
            on_issue(Issue("bad-record", location, "it has no 'label'", "the name of its class"))
            continue
        kind = value.get("shape_type") or "polygon"
        if kind in _WITHOUT_AREA:
            observed = f"it is a {kind}, which has no box, and is left out"
            on_issue(
                Issue("shape-without-area", location, observed, "a rectangle, polygon, circle or mask", fatal=False)
            )
            continue
        shape = _shape(label, str(kind), value, size)
        if isinstance(shape, Shape):
            yield value, shape
        else:
            on_issue(Issue("bad-record", location, *shape))


def label_of(value: Any) -> str | None:
    """Return the name of the class of a shape; ``None`` if it has none."""
    label = value.get("label") if isinstance(value, dict) else None
    return str(label) if isinstance(label, str | int) and str(label).strip() else None


def _shape(label: str, kind: str, value: dict[str, Any], size: tuple[int, int]) -> Shape | tuple[str, str]:
    """Return a shape, or what is observed and what expected."""
    points = _points(value.get("points"))
    if points is None:
        return "its 'points' are not pairs of finite numbers", "a list of x, y in pixels"
    numbers = _NUMBERS_OF_POINTS.get(kind, ())
    if numbers and len(points) not in numbers:
        return f"it is a {kind} of {len(points)} points", " or ".join(map(str, numbers))
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return Shape(label, (x1, y1, x2, y2), (x2 - x1) * (y2 - y1), (_rectangle(x1, y1, x2, y2),), is_rectangle=True)
    if kind == "circle":
        (x, y), radius = points[0].tolist(), math.dist(*points.tolist())
        angles = np.arange(_CIRCLE_CORNERS) * (2 * np.pi / _CIRCLE_CORNERS)
        outline = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        box = x - radius, y - radius, x + radius, y + radius
        return Shape(label, box, math.pi * radius**2, (outline.ravel().tolist(),))
    if kind == "mask":
        return _mask(label, value.get("mask"), points, size)
    if kind not in _POLYGONS:
        return f"its 'shape_type' is {kind!r:.60}", "rectangle, polygon, circle or mask"
    if len(points) < 3:
        return f"it is a {kind} of {len(points)} {'point' if len(points) == 1 else 'points'}", "3 or more"
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return Shape(label, (x1, y1, x2, y2), abs(signed_area(points)), (points.ravel().tolist(),))


def _mask(label: str, text: Any, points: NDArray[np.float64], size: tuple[int, int]) -> Shape | tuple[str, str]:
    """Return a mask: the corners are pixels inside of it, the PNG in base64 is as large as the rectangle of both."""
    expected = "a PNG in base64 that is as large as its rectangle, in an image of known size"
    (x1, y1), (x2, y2) = points.astype(np.int64).tolist()
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
            part = np.asarray(image.convert("L")) > 0
    except (TypeError, ValueError, OSError, SyntaxError):
        return "its 'mask' cannot be decoded", expected
    if part.shape != (y2 + 1 - y1, x2 + 1 - x1) or min(x1, y1) < 0 or x2 >= size[1] or y2 >= size[0]:
        return f"its 'mask' is {part.shape[1]} x {part.shape[0]} px from {x1}, {y1} to {x2}, {y2}", expected
    mask = np.zeros(size, dtype=np.uint8)
    mask[y1 : y2 + 1, x1 : x2 + 1] = part
    return Shape(label, (x1, y1, x2 + 1.0, y2 + 1.0), float(part.sum()), mask=encode(mask))


def _merge(first: Shape, second: Shape, size: tuple[int, int]) -> Shape:
    """Return two parts of one object as one."""
    (a, b), (c, d) = (first.box[:2], second.box[:2]), (first.box[2:], second.box[2:])
    box = min(a[0], b[0]), min(a[1], b[1]), max(c[0], d[0]), max(c[1], d[1])
    if first.mask is None and second.mask is None:
        area, polygons = first.area + second.area, (*first.polygons, *second.polygons)
        return replace(first, box=box, area=area, polygons=polygons, is_rectangle=False)
    masks = [decode(part.mask if part.mask is not None else list(part.polygons), *size) for part in (first, second)]
    mask = masks[0] | masks[1]
    return Shape(first.label, box, float(mask.sum()), mask=encode(mask))


def _overlap(first: Shape, second: Shape) -> bool:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = first.box, second.box
    return min(ax2, bx2) >= max(ax1, bx1) and min(ay2, by2) >= max(ay1, by1)


def _points(value: Any) -> NDArray[np.float64] | None:
    """Return points (P, 2); ``None`` if they are not pairs of finite numbers."""
    try:
        points = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return points if points.ndim == 2 and points.shape[1] == 2 and np.isfinite(points).all() else None


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    return [x1, y1, x2, y1, x2, y2, x1, y2]
