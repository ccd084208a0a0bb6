"""Whether lines of a YOLO data set that are longer than a box may be boxes with keypoints instead of polygons."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MAX_LINES = 200
"""Lines that are looked at."""
_MARGIN = 0.1
"""Fraction of a box by which keypoints, and rounded boxes the image, may be exceeded."""
_MIN_EXTENT = 0.25
"""Fraction of the box that its keypoints cover at least in one direction.

A small polygon read as keypoints fails: its "box" is as large as its coordinates, its points are close to each other.
"""
_BOX = 4

Points = NDArray[np.float64]
"""(P, 2)"""


class KeypointEvidence:
    """Collects lines of one split, and tells whether all of them may be boxes with keypoints.

    Lines of pose data all have the same length, a box inside the image, and most keypoints inside the box; a third
    value of each keypoint is its visibility 0, 1 or 2. Polygons with the same number of corners mostly contradict:
    their first two points are no such box, they are small and far from the origin, or parallelograms (rotated boxes).
    """

    def __init__(self) -> None:
        self.location = ""
        """Of the first line."""
        self._lines: list[list[float]] = []
        self._same_length = True

    def add(self, coordinates: list[float], location: str) -> None:
        """Add the coordinates of a line.

        Args:
            coordinates: its numbers without the class id.
            location: file and line, for messages.
        """
        if not self._lines:
            self.location = location
        self._same_length &= not self._lines or len(coordinates) == len(self._lines[0])
        if self._same_length and len(self._lines) < _MAX_LINES:
            self._lines.append(coordinates)

    def shape(self) -> tuple[int, int] | None:
        """Return number of keypoints and of values of each as they may be; ``None`` if the lines are polygons."""
        if not self._lines or not self._same_length:
            return None
        lines = np.array(self._lines)
        values = lines.shape[1] - _BOX
        if values % 3 == 0:
            keypoints = lines[:, _BOX:].reshape(len(lines), -1, 3)
            fits = [_is_in_image(line[:_BOX]) for line in lines]
            if np.isin(keypoints[..., 2], (0, 1, 2)).all() and np.mean(fits) >= 0.9:
                return values // 3, 3
        points = lines.reshape(len(lines), -1, 2)
        fits = [_is_in_image(line[:_BOX]) and _has_inside(line[:_BOX], line[_BOX:].reshape(-1, 2)) for line in lines]
        if np.mean(fits) < 0.9 or np.mean([_is_polygon(polygon) for polygon in points]) > 0.9:
            return None
        return values // 2, 2


def looks_like_visibility(words: Sequence[str], *, is_polygon: bool) -> bool:
    """Return whether every third word of a line is 0, 1 or 2, and one of them cannot be a coordinate of a polygon.

    Args:
        words: those after the class id and the box.
        is_polygon: whether their number is that of a polygon.
    """
    if not words or len(words) % 3:
        return False
    third = words[2::3]
    try:
        flags = {float(word) for word in third}
    except ValueError:
        return False
    return flags <= {0.0, 1.0, 2.0} and (2.0 in flags or not is_polygon)


def _is_in_image(box: Points) -> bool:
    center, size = box[:2], box[2:]
    return bool((size > 0).all() and (center - size / 2 >= -0.01).all() and (center + size / 2 <= 1.01).all())


def _has_inside(box: Points, keypoints: Points) -> bool:
    """Return whether most keypoints are inside a box; those at 0, 0 are not visible."""
    visible = keypoints[keypoints.any(axis=1)]
    distances = np.abs(visible - box[:2])
    inside = (distances <= box[2:] * (0.5 + _MARGIN)).all(axis=1)
    return not len(visible) or bool(inside.mean() >= 0.75)


def _is_polygon(points: Points) -> bool:
    """Return whether points are a parallelogram, or close to each other compared with the second as a size."""
    if len(points) == 4 and np.abs(points[0] + points[2] - points[1] - points[3]).max() < 0.005:
        return True
    return bool((np.ptp(points, axis=0) < _MIN_EXTENT * points[1]).all())
