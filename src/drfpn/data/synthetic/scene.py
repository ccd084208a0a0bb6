"""Composition of one synthetic image: objects and distractors that touch and occlude each other."""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from drfpn.data.synthetic.geometry import DISTRACTORS, OBJECTS, Outline, outline_area, transform_outline
from drfpn.data.synthetic.rendering import background, contrasting_color, rasterize, texture

BACKGROUND = -1
EMPTY_IMAGE_PROBABILITY = 0.08
MIN_VISIBLE_FRACTION = 0.6
"""Fraction of an object's area that must be visible and inside the image."""

# Square root of the area in pixels; COCO's bounds are 32 and 96.
SMALL, MEDIUM, LARGE = (13.0, 31.0), (34.0, 90.0), (98.0, 150.0)
SIZE_PROBABILITIES = (0.34, 0.4, 0.26)

_OUTLINES = [draw() for draw in OBJECTS.values()]
_DISTRACTORS = [draw() for draw in DISTRACTORS]


@dataclass
class Scene:
    """An image that is being drawn, and the object at each pixel."""

    image: NDArray[np.float32]
    """(H, W, 3) in 0..255"""
    instance_map: NDArray[np.int16]
    """(H, W) index of the topmost object, or ``BACKGROUND``."""
    labels: list[int] = field(default_factory=list)
    full_areas: list[int] = field(default_factory=list)
    """Areas in pixels before occlusion and truncation."""
    circles: list[tuple[float, float, float]] = field(default_factory=list)
    """x, y and radius of each object."""

    def masks(self) -> NDArray[np.uint8]:
        """Return the visible part of each object, (N, H, W)."""
        indices = np.arange(len(self.labels), dtype=np.int16)[:, None, None]
        return np.asarray(self.instance_map == indices, dtype=np.uint8)


def image_height_width(rng: np.random.Generator) -> tuple[int, int]:
    """Return the random size of an image; must be the first use of its generator."""
    return int(rng.integers(240, 289)), int(rng.integers(288, 353))


def render_scene(rng: np.random.Generator) -> Scene:
    """Draw an image from a new random generator."""
    height, width = image_height_width(rng)
    scene = Scene(background(rng, height, width), np.full((height, width), BACKGROUND, dtype=np.int16))
    count = 0 if rng.random() < EMPTY_IMAGE_PROBABILITY else int(rng.integers(1, 10))
    sides = [_random_side(rng) for _ in range(count)]
    items = [(int(rng.integers(1, len(_OUTLINES) + 1)), side) for side in sides]
    items += [(0, min(_random_side(rng), 80.0)) for _ in range(int(rng.integers(1, 5)))]
    # Mostly from large to small, or the small ones would be hidden.
    order = np.argsort([-side * rng.uniform(0.4, 1) for _, side in items], kind="stable")
    for index in order.tolist():
        _add(scene, rng, *items[index])
    amplitude = int(rng.integers(2, 13))
    scene.image += rng.integers(-amplitude, amplitude + 1, scene.image.shape, dtype=np.int8)
    np.clip(scene.image, 0, 255, out=scene.image)
    return scene


def _random_side(rng: np.random.Generator) -> float:
    low, high = (SMALL, MEDIUM, LARGE)[int(np.searchsorted(np.cumsum(SIZE_PROBABILITIES[:-1]), rng.random()))]
    return float(rng.uniform(low, high))


def _add(scene: Scene, rng: np.random.Generator, label: int, side: float) -> None:
    """Try some positions for an object (label 1..K) or a distractor (0); skip it if all occlude too much."""
    height, width = scene.instance_map.shape
    outline = _OUTLINES[label - 1] if label else _DISTRACTORS[int(rng.integers(0, len(_DISTRACTORS)))]
    squeeze = rng.uniform(0.85, 1.0)
    radius = min(side / sqrt(outline_area(outline) * squeeze), 0.42 * min(height, width))
    angle = rng.uniform(0, 360)
    max_occlusion = 0.03 if rng.random() < 0.65 else 1.0
    adjacent = bool(scene.circles) and rng.random() < 0.25
    for _ in range(10):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if adjacent:
            x, y = _adjacent_position(scene, rng, radius)
        if _draw(scene, rng, transform_outline(outline, (x, y), radius, angle, squeeze), label, max_occlusion):
            if label:
                scene.circles.append((x, y, radius))
            return


def _adjacent_position(scene: Scene, rng: np.random.Generator, radius: float) -> tuple[float, float]:
    x, y, other = scene.circles[int(rng.integers(0, len(scene.circles)))]
    direction = rng.uniform(-1, 1, 2)
    step = direction / max(float(np.sqrt((direction**2).sum())), 1e-6) * (radius + other) * rng.uniform(0.7, 1)
    return x + float(step[0]), y + float(step[1])


def _draw(scene: Scene, rng: np.random.Generator, outline: Outline, label: int, max_occlusion: float) -> bool:
    """Draw an outline unless it would occlude too much; return whether it was drawn.

    Args:
        scene: modified in place.
        rng: random generator of color and texture.
        outline: in pixels.
        label: 1..K, or 0 for a distractor.
        max_occlusion: fraction of the outline's area that may occlude other objects.
    """
    left, top, coverage = rasterize(outline)
    full_area = int((coverage >= 128).sum())
    height, width = scene.instance_map.shape
    coverage = coverage[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    left, top = max(left, 0), max(top, 0)
    window = (slice(top, top + coverage.shape[0]), slice(left, left + coverage.shape[1]))
    mask = coverage >= 128
    instances = scene.instance_map[window]
    area = int(mask.sum())
    if area < max(MIN_VISIBLE_FRACTION * full_area, 20):
        return False
    occluded = np.bincount(instances[mask] + 1, minlength=len(scene.labels) + 1)[1:]
    if occluded.sum() > max_occlusion * area:
        return False
    for index in np.flatnonzero(occluded).tolist():
        visible = int((scene.instance_map == index).sum()) - int(occluded[index])
        if visible < MIN_VISIBLE_FRACTION * scene.full_areas[index]:
            return False
    pixels = scene.image[window]
    color = contrasting_color(rng, pixels[mask].mean(axis=0))
    alpha = coverage[..., None].astype(np.float32) / 255
    pixels += alpha * (texture(rng, mask.shape[0], mask.shape[1], color) - pixels)
    instances[mask] = len(scene.labels) if label else BACKGROUND
    if label:
        scene.labels.append(label)
        scene.full_areas.append(full_area)
    return True
