"""Conversion of masks and of several polygons to one polygon that covers the same pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drfpn.data.masks.rle import decode

Contour = NDArray[np.float64]
"""(N, 2) x, y of the corners of a closed polygon in pixels; the last corner is connected to the first."""


def to_polygon(segmentation: Any, height: int, width: int) -> Contour | None:
    """Return one polygon (P, 2) in pixels that covers the same pixels as a segmentation; ``None`` if it covers none.

    Args:
        segmentation: valid polygons or RLE in COCO's format.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    if isinstance(segmentation, list):
        contours = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]
        if len(contours) == 1:
            return contours[0]
        joined = join_contours([contour if signed_area(contour) >= 0 else contour[::-1] for contour in contours])
        mask = decode(segmentation, height, width)
        if np.array_equal(decode([joined.ravel().tolist()], height, width), mask):
            return joined
    else:
        mask = decode(segmentation, height, width)
    return join_contours(mask_to_contours(mask)) if mask.any() else None


def mask_to_contours(mask: NDArray[np.uint8]) -> list[Contour]:
    """Return the contours of a mask (H, W) along the edges of its pixels.

    Pixel (row, column) extends from (column, row) to (column + 1, row + 1). Outer contours have a positive signed area
    (they turn from x to y), those of holes a negative one.
    """
    steps_from = _edges(mask)
    contours = []
    while steps_from:
        start = next(iter(steps_from))
        corner, step = start, steps_from[start][0]
        corners: list[tuple[int, int]] = []
        while True:
            steps = steps_from[corner]
            # Where two pixels touch at a corner, stay at the same pixel: turn towards the inside.
            inward = (-step[1], step[0])
            next_step = inward if inward in steps else steps[0]
            steps.remove(next_step)
            if not steps:
                del steps_from[corner]
            if next_step != step or not corners:
                corners.append(corner)
            step = next_step
            corner = corner[0] + step[0], corner[1] + step[1]
            if corner == start and start not in steps_from:
                break
        contours.append(_drop_collinear_start(np.array(corners, dtype=np.float64)))
    return contours


def join_contours(contours: list[Contour]) -> Contour:
    """Return one polygon that contains all contours, with a bridge in both directions between any two of them.

    Bridges have no width, so they cover no pixel under the even-odd rule, by which COCO rasterizes.
    """
    joined, *others = sorted(contours, key=lambda contour: -abs(signed_area(contour)))
    for contour in others:
        distances = ((joined[:, None] - contour[None]) ** 2).sum(axis=2)
        i, j = np.unravel_index(int(distances.argmin()), distances.shape)
        closed = np.concatenate([contour[j:], contour[: j + 1]])
        joined = np.concatenate([joined[: i + 1], closed, joined[i:]])
    return joined


def signed_area(contour: Contour) -> float:
    """Return the area by the shoelace formula, positive if the contour turns from x to y."""
    x, y = contour.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _edges(mask: NDArray[np.uint8]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return the steps from each corner to the next along the edges, with the inside on the right (y points down)."""
    padded = np.pad(mask.astype(np.int8), 1)
    steps_from: dict[tuple[int, int], list[tuple[int, int]]] = {}
    across, down = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    for difference, value, offset, step in (
        (across, 1, (0, 0), (1, 0)),  # upper edge: to the right
        (across, -1, (1, 0), (-1, 0)),  # lower edge: to the left
        (down, 1, (0, 1), (0, -1)),  # left edge: up
        (down, -1, (0, 0), (0, 1)),  # right edge: down
    ):
        rows, columns = np.nonzero(difference == value)
        for x, y in zip((columns + offset[0]).tolist(), (rows + offset[1]).tolist(), strict=True):
            steps_from.setdefault((x, y), []).append(step)
    return steps_from


def _drop_collinear_start(contour: Contour) -> Contour:
    """Drop the first corner if it lies on a straight line."""
    before, after = contour[0] - contour[-1], contour[1] - contour[0]
    return contour[1:] if before[0] * after[1] == before[1] * after[0] else contour
