"""One synthetic image: objects and look-alikes that touch and cover each other."""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from drfpn.data.synthetic.outlines import CLUTTER, OBJECTS, Outline, outline_area, place
from drfpn.data.synthetic.painting import background, contrasting_colour, draw_coverage, texture

NOBODY = -1
EMPTY_SHARE = 0.08
LEAST_VISIBLE = 0.6
"""Share of an object's area that must stay uncovered and inside the image."""

# Square root of the area in pixels; COCO's bounds are 32 and 96.
SMALL, MEDIUM, LARGE = (13.0, 31.0), (34.0, 90.0), (98.0, 150.0)
SHARES = (0.34, 0.4, 0.26)

_OUTLINES = [draw() for draw in OBJECTS.values()]
_CLUTTER = [draw() for draw in CLUTTER]


@dataclass
class Scene:
    """A picture that is being painted, and who owns each pixel of it."""

    picture: NDArray[np.float32]
    """(H, W, 3) in 0..255"""
    owner: NDArray[np.int16]
    """(H, W) number of the object that is on top, or ``NOBODY``."""
    labels: list[int] = field(default_factory=list)
    full_areas: list[int] = field(default_factory=list)
    """Areas in pixels before anything was covered or cut off."""
    circles: list[tuple[float, float, float]] = field(default_factory=list)
    """x, y and radius of each object."""

    def masks(self) -> NDArray[np.uint8]:
        """Return the visible part of each object, (N, H, W)."""
        numbers = np.arange(len(self.labels), dtype=np.int16)[:, None, None]
        return np.asarray(self.owner == numbers, dtype=np.uint8)


def image_height_width(rng: np.random.Generator) -> tuple[int, int]:
    """Draw the size of an image; must be the first use of its generator."""
    return int(rng.integers(240, 289)), int(rng.integers(288, 353))


def paint_scene(rng: np.random.Generator) -> Scene:
    """Paint an image from a fresh generator."""
    height, width = image_height_width(rng)
    scene = Scene(background(rng, height, width), np.full((height, width), NOBODY, dtype=np.int16))
    count = 0 if rng.random() < EMPTY_SHARE else int(rng.integers(1, 10))
    sides = [_random_side(rng) for _ in range(count)]
    items = [(int(rng.integers(1, len(_OUTLINES) + 1)), side) for side in sides]
    items += [(0, min(_random_side(rng), 80.0)) for _ in range(int(rng.integers(1, 5)))]
    # Mostly from large to small, or the small ones would lie hidden below.
    order = np.argsort([-side * rng.uniform(0.4, 1) for _, side in items], kind="stable")
    for index in order.tolist():
        _add(scene, rng, *items[index])
    amplitude = int(rng.integers(2, 13))
    scene.picture += rng.integers(-amplitude, amplitude + 1, scene.picture.shape, dtype=np.int8)
    np.clip(scene.picture, 0, 255, out=scene.picture)
    return scene


def _random_side(rng: np.random.Generator) -> float:
    low, high = (SMALL, MEDIUM, LARGE)[int(np.searchsorted(np.cumsum(SHARES[:-1]), rng.random()))]
    return float(rng.uniform(low, high))


def _add(scene: Scene, rng: np.random.Generator, label: int, side: float) -> None:
    """Try some places for an object (label 1..K) or a look-alike (0); leave it out if none is free."""
    height, width = scene.owner.shape
    outline = _OUTLINES[label - 1] if label else _CLUTTER[int(rng.integers(0, len(_CLUTTER)))]
    squeeze = rng.uniform(0.85, 1.0)
    radius = min(side / sqrt(outline_area(outline) * squeeze), 0.42 * min(height, width))
    angle = rng.uniform(0, 360)
    most_covered = 0.03 if rng.random() < 0.65 else 1.0
    beside = bool(scene.circles) and rng.random() < 0.25
    for _ in range(10):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if beside:
            x, y = _next_to(scene, rng, radius)
        if _paint(scene, rng, place(outline, (x, y), radius, angle, squeeze), label, most_covered):
            if label:
                scene.circles.append((x, y, radius))
            return


def _next_to(scene: Scene, rng: np.random.Generator, radius: float) -> tuple[float, float]:
    x, y, other = scene.circles[int(rng.integers(0, len(scene.circles)))]
    direction = rng.uniform(-1, 1, 2)
    step = direction / max(float(np.sqrt((direction**2).sum())), 1e-6) * (radius + other) * rng.uniform(0.7, 1)
    return x + float(step[0]), y + float(step[1])


def _paint(scene: Scene, rng: np.random.Generator, outline: Outline, label: int, most_covered: float) -> bool:
    """Paint an outline unless it would hide too much; tell whether it was painted.

    Args:
        scene: Is changed.
        rng: Draws colour and texture.
        outline: In pixels.
        label: 1..K, or 0 for a look-alike.
        most_covered: Share of the outline's area that may lie over objects.
    """
    left, top, coverage = draw_coverage(outline)
    full_area = int((coverage >= 128).sum())
    height, width = scene.owner.shape
    coverage = coverage[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    left, top = max(left, 0), max(top, 0)
    window = (slice(top, top + coverage.shape[0]), slice(left, left + coverage.shape[1]))
    mask = coverage >= 128
    owner = scene.owner[window]
    area = int(mask.sum())
    if area < max(LEAST_VISIBLE * full_area, 20):
        return False
    covered = np.bincount(owner[mask] + 1, minlength=len(scene.labels) + 1)[1:]
    if covered.sum() > most_covered * area:
        return False
    for number in np.flatnonzero(covered).tolist():
        visible = int((scene.owner == number).sum()) - int(covered[number])
        if visible < LEAST_VISIBLE * scene.full_areas[number]:
            return False
    surface = scene.picture[window]
    colour = contrasting_colour(rng, surface[mask].mean(axis=0))
    alpha = coverage[..., None].astype(np.float32) / 255
    surface += alpha * (texture(rng, mask.shape[0], mask.shape[1], colour) - surface)
    owner[mask] = len(scene.labels) if label else NOBODY
    if label:
        scene.labels.append(label)
        scene.full_areas.append(full_area)
    return True
