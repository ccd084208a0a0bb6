"""Geometry of the synthetic objects, and of the distractors that resemble them."""

from collections.abc import Callable
from math import cos, pi, radians, sin

Polygon = list[tuple[float, float]]
Outline = list[Polygon]
"""A polygon and its holes, in units of the radius around (0, 0)."""


def outline_area(outline: Outline) -> float:
    """Return the area of an outline in units of the squared radius."""
    outer, *holes = (_shoelace(polygon) for polygon in outline)
    return outer - sum(holes)


def transform_outline(
    outline: Outline, center: tuple[float, float], radius: float, angle: float, squeeze: float
) -> Outline:
    """Squeeze, rotate, scale and translate an outline.

    Args:
        outline: in units of the radius.
        center: x and y of the new center, pixels.
        radius: pixels.
        angle: degrees.
        squeeze: factor along x before the rotation.
    """
    c, s = radius * cos(radians(angle)), radius * sin(radians(angle))
    center_x, center_y = center
    return [
        [(center_x + c * squeeze * x - s * y, center_y + s * squeeze * x + c * y) for x, y in polygon]
        for polygon in outline
    ]


def disc() -> Outline:
    """Return a circle."""
    return [_ellipse(1, 1)]


def square() -> Outline:
    """Return a square."""
    return [_regular(4)]


def triangle() -> Outline:
    """Return an equilateral triangle."""
    return [_regular(3)]


def ring() -> Outline:
    """Return a circle with a hole."""
    return [_ellipse(1, 1), _ellipse(0.56, 0.56)]


def star() -> Outline:
    """Return a star with five points."""
    return [_spiked(5, 0.44)]


def cross() -> Outline:
    """Return a plus sign."""
    a, b = 0.92, 0.32
    corner = [(b, a), (b, b), (a, b), (a, -b), (b, -b), (b, -a)]
    return [corner + [(-x, -y) for x, y in corner]]


def ellipse() -> Outline:
    """Return an ellipse that is not a disc."""
    return [_ellipse(1, 0.5)]


def bar() -> Outline:
    """Return a rectangle that is not a square."""
    return [[(-1, -0.42), (1, -0.42), (1, 0.42), (-1, 0.42)]]


def pentagon() -> Outline:
    """Return a regular pentagon."""
    return [_regular(5)]


def hexagon() -> Outline:
    """Return a regular hexagon."""
    return [_regular(6)]


def arc() -> Outline:
    """Return two thirds of a ring."""
    outer = [(cos(t), sin(t)) for t in _angles(0, 1.34, 32)]
    return [outer + [(0.56 * x, 0.56 * y) for x, y in reversed(outer)]]


def half_disc() -> Outline:
    """Return half a disc."""
    return [[(cos(t), sin(t) - 0.4) for t in _angles(0, 1, 24)]]


def burst() -> Outline:
    """Return a star with eight points."""
    return [_spiked(8, 0.6)]


def kite() -> Outline:
    """Return a star with four points."""
    return [_spiked(4, 0.36)]


def corner() -> Outline:
    """Return an L: a plus sign without two arms."""
    return [[(-0.7, -0.9), (-0.05, -0.9), (-0.05, 0.25), (0.8, 0.25), (0.8, 0.9), (-0.7, 0.9)]]


OBJECTS: dict[str, Callable[[], Outline]] = {
    "cross": cross,
    "disc": disc,
    "ring": ring,
    "square": square,
    "star": star,
    "triangle": triangle,
}
DISTRACTORS: tuple[Callable[[], Outline], ...] = (ellipse, bar, pentagon, hexagon, arc, half_disc, burst, kite, corner)


def _angles(start: float, end: float, count: int) -> list[float]:
    """Return ``count`` angles from ``start`` to ``end``, given in units of pi."""
    return [pi * (start + (end - start) * k / (count - 1)) for k in range(count)]


def _ellipse(a: float, b: float) -> Polygon:
    return [(a * cos(t), b * sin(t)) for t in _angles(0, 2, 49)[:-1]]


def _regular(corners: int) -> Polygon:
    return [(cos(2 * pi * k / corners), sin(2 * pi * k / corners)) for k in range(corners)]


def _spiked(points: int, inner: float) -> Polygon:
    angles = [(pi * k / points, inner if k % 2 else 1.0) for k in range(2 * points)]
    return [(r * cos(t), r * sin(t)) for t, r in angles]


def _shoelace(polygon: Polygon) -> float:
    following = polygon[1:] + polygon[:1]
    doubled = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(polygon, following, strict=True))
    return abs(doubled) / 2
