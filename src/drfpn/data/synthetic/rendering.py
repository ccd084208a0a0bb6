"""Rendering of the synthetic images: colors, textures, backgrounds, rasterization.

Only the uniform generators of numpy and Pillow's integer resampling are used, so that images are the same on every
platform.
"""

import colorsys
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from drfpn.data.synthetic.geometry import Outline

Pixels = NDArray[np.float32]
SUPERSAMPLING = 3


def random_color(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Pixels:
    """Return a random RGB color (3,) in 0..255 of any hue.

    Args:
        rng: random generator.
        saturation: range of the saturation, within 0..1.
        value: range of the value, within 0..1.
    """
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array(rgb, dtype=np.float32) * 255


def contrasting_color(rng: np.random.Generator, background_color: Pixels, min_distance: float = 70.0) -> Pixels:
    """Return a random color (3,) that differs visibly from a background color.

    Args:
        rng: random generator.
        background_color: (3,) in 0..255.
        min_distance: minimum Euclidean distance to it, if one of eight random colors reaches it.
    """
    for _ in range(8):
        color = random_color(rng, (0.25, 0.85), (0.35, 1.0))
        if float(((color - background_color) ** 2).sum()) >= min_distance**2:
            break
    return color


def background(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Return a blurred background (H, W, 3) in 0..255: a gradient with cloudy patches, blobs and strokes."""
    first, second = (random_color(rng, (0.05, 0.45), (0.3, 0.95)) for _ in range(2))
    rows, columns = int(rng.integers(5, 13)), int(rng.integers(6, 15))
    # Gray patches with a little color: saturated ones would be more salient than the objects.
    clouds = rng.integers(-90, 91, (rows, columns, 1)) + rng.integers(-35, 36, (rows, columns, 3))
    coarse = _gradient(rng, rows, columns, first, second) + clouds * rng.uniform(0.1, 0.5)
    small = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    _draw_strokes(rng, image)
    return np.asarray(image.filter(ImageFilter.BoxBlur(int(rng.integers(0, 3)) / 2))).astype(np.float32)


def texture(rng: np.random.Generator, height: int, width: int, color: Pixels) -> Pixels:
    """Return a random texture (H, W, 3) around ``color``: plain, shaded, striped or speckled."""
    kind = rng.integers(0, 4)
    if kind == 0:
        return np.broadcast_to(color, (height, width, 3))
    strength = np.float32(rng.uniform(0.45, 0.8))
    if kind == 1:
        return _gradient(rng, height, width, color, color * strength)
    if kind == 2:
        period, angle = rng.uniform(4, 14), rng.uniform(0, pi)
        rows, columns = np.ogrid[:height, :width]
        stripes = ((rows * sin(angle) + columns * cos(angle)) % period < period / 2)[..., None]
        return np.where(stripes, color, color * strength).astype(np.float32)
    speckles = rng.integers(0, 256, (height, width, 1), dtype=np.uint8).astype(np.float32) / 255
    return np.asarray(color * (1 - (1 - strength) * speckles), dtype=np.float32)


def rasterize(outline: Outline) -> tuple[int, int, NDArray[np.uint8]]:
    """Rasterize an outline in pixels, antialiased.

    Args:
        outline: in pixels.

    Returns:
        Left and top of its window (which may be outside the image), and its coverage (h, w), 0 to 255.
    """
    points = np.array(outline[0])
    left, top = np.floor(points.min(axis=0)).astype(int).tolist()
    right, bottom = (np.floor(points.max(axis=0)) + 1).astype(int).tolist()
    scale = SUPERSAMPLING
    canvas = Image.new("L", ((right - left) * scale, (bottom - top) * scale))
    pen = ImageDraw.Draw(canvas)
    for index, polygon in enumerate(outline):
        corners = [(round((x - left) * scale), round((y - top) * scale)) for x, y in polygon]
        pen.polygon(corners, fill=0 if index else 255)
    return left, top, np.asarray(canvas.reduce(scale))


def _gradient(rng: np.random.Generator, height: int, width: int, first: Pixels, second: Pixels) -> Pixels:
    """Return a gradient (H, W, 3) from one color to another in a random direction."""
    angle = rng.uniform(0, 2 * pi)
    rows = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(sin(angle))
    columns = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(cos(angle))
    weight = (rows + columns + np.float32(0.5)).clip(0, 1)[..., None]
    return np.asarray(first + (second - first) * weight, dtype=np.float32)


def _draw_strokes(rng: np.random.Generator, image: Image.Image) -> None:
    """Draw blobs, strokes and arcs of muted colors."""
    pen = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(int(rng.integers(4, 14))):
        color = tuple(int(c) for c in random_color(rng, (0.05, 0.5), (0.2, 0.95)))
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(rng.integers(6, 90)), int(rng.integers(6, 90))
        kind = rng.integers(0, 3)
        if kind == 0:
            w = min(w, 3 * h // 5) if rng.random() < 0.5 else max(w, 5 * h // 3)  # never close to a disc
            pen.ellipse((x, y, x + w // 2, y + h // 2), fill=color)
        elif kind == 1:
            ends = (x, y, x + int(rng.integers(-90, 91)), y + int(rng.integers(-90, 91)))
            pen.line(ends, fill=color, width=int(rng.integers(1, 5)))
        else:
            start = int(rng.integers(0, 360))
            end = start + int(rng.integers(40, 200))
            pen.arc((x, y, x + w, y + h), start, end, fill=color, width=int(rng.integers(1, 5)))
