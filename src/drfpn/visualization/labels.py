"""Text labels of boxes, placed inside the picture and without overlap where there is room."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from drfpn.visualization.fonts import Font, load_font

_MIN_FONT = 10
"""Smallest font size that can be read, pixels."""
_CROWDED = 0.12
"""Fraction of the picture that text may cover before the font shrinks, to one half at most."""
Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class Label:
    """Text and box of one label."""

    text: str
    box: Sequence[float]
    """x1, y1, x2, y2 in pixels."""
    color: str
    """Background color, ``#RRGGBB``."""
    required: bool = True
    """Whether to write it even over other text; else it is left out where there is no room."""


def write_labels(picture: Image.Image, labels: Sequence[Label]) -> list[Rectangle]:
    """Write labels on a picture.

    Args:
        picture: picture to draw on.
        labels: the labels; earlier ones are placed first and drawn on top of later ones.

    Returns:
        The rectangle of each label that was written, in their order.
    """
    pen = ImageDraw.Draw(picture)
    font, escape = _font(pen, picture.size, [label.text for label in labels])
    placed: list[tuple[Label, str, Rectangle]] = []
    # per pixel, so that the time for a label does not depend on their number
    occupied = np.zeros((picture.height, picture.width), dtype=np.uint32)
    for label in labels:
        text = _truncate(escape(label.text), font, picture.width - 2 * _padding(font))
        width, height = _extent(pen, text, font)
        if width > picture.width or height > picture.height:
            continue
        rectangle, covered = _position(label.box, width, height, occupied)
        if label.required or covered == 0:
            placed.append((label, text, rectangle))
            occupied[rectangle[1] : rectangle[3], rectangle[0] : rectangle[2]] += 1
    for label, text, rectangle in reversed(placed):
        left, top, _, _ = pen.textbbox((0, 0), text, font=font)
        x, y, right, bottom = rectangle
        pen.rectangle((x, y, right - 1, bottom - 1), fill=label.color)
        # whole pixels: Pillow cuts glyphs off at fractions
        position = (x + _padding(font) - int(left), y + _padding(font) - int(top))
        pen.text(position, text, fill=_text_color(label.color), font=font)
    return [rectangle for _, _, rectangle in placed]


def _font(pen: ImageDraw.ImageDraw, size: tuple[int, int], texts: Sequence[str]) -> tuple[Font, Callable[[str], str]]:
    """Choose a font that grows with the picture and shrinks if there is much text; see :func:`load_font`."""
    area = size[0] * size[1]
    font_size = max(_MIN_FONT, round(area**0.5 / 36))
    font, escape = load_font(texts, font_size)
    covered = 0
    for text in texts:
        width, height = _extent(pen, escape(text), font)
        covered += width * height
    shrink = min(1.0, max(0.5, (_CROWDED * area / max(covered, 1)) ** 0.5))
    return load_font(texts, max(_MIN_FONT, round(font_size * shrink)))


def _extent(pen: ImageDraw.ImageDraw, text: str, font: Font) -> tuple[int, int]:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    return int(right) - int(left) + 2 * _padding(font), int(bottom) - int(top) + 2 * _padding(font)


def _padding(font: Font) -> int:
    """Return the padding between text and the border of its label, pixels."""
    return max(2, round(font.getbbox("0")[3] / 5))


def _truncate(text: str, font: Font, width: int) -> str:
    """Truncate a text that is wider than ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    fitting = bisect_right(
        range(len(text)), width, key=lambda length: int(np.ceil(font.getlength(text[:length] + "...")))
    )
    return text[: max(fitting - 1, 0)] + "..."


def _position(box: Sequence[float], width: int, height: int, occupied: NDArray[np.uint32]) -> tuple[Rectangle, int]:
    """Return the rectangle at a box that covers the fewest pixels of other labels, and their number.

    Args:
        box: x1, y1, x2, y2 in pixels.
        width: width of the rectangle.
        height: height of the rectangle.
        occupied: (H, W), how many labels cover each pixel.
    """
    x1, y1, x2, y2 = box
    best: Rectangle | None = None
    fewest = 0
    for x, y in (
        (x1, y1 - height),
        (x1, y2),
        (x1, y1),
        (x2 - width, y2 - height),
        (x2 - width, y1 - height),
        (x2 - width, y2),
        (x1, y2 - height),
        (x2 - width, y1),
        (x2, y1),
        (x1 - width, y1),
    ):
        left = round(min(max(x, 0), occupied.shape[1] - width))
        top = round(min(max(y, 0), occupied.shape[0] - height))
        rectangle = (left, top, left + width, top + height)
        covered = _count_covered(occupied, rectangle)
        if best is None or covered < fewest:
            best, fewest = rectangle, covered
        if fewest == 0:
            break
    assert best is not None
    return best, fewest


def _count_covered(occupied: NDArray[np.uint32], rectangle: Rectangle) -> int:
    left, top, right, bottom = rectangle
    return int(occupied[top:bottom, left:right].sum(dtype=np.int64))


def _text_color(background: str) -> str:
    """Return black or white, whichever is easier to read on ``#RRGGBB`` (W3C's relative luminance)."""
    channels = [int(background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"
