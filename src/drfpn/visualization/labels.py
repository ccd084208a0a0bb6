"""Text labels of boxes, placed inside the picture and without overlap where there is room."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_MIN_FONT = 10
"""Smallest font size that can be read, pixels."""
_CROWDED = 0.12
"""Fraction of the picture that text may cover before the font shrinks, to one half at most."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
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
    font = _font(pen, picture.size, labels)
    placed: list[tuple[Label, str, Rectangle]] = []
    for label in labels:
        text = _truncate(label.text, font, picture.width - 2 * _padding(font))
        width, height = _extent(pen, text, font)
        if width > picture.width or height > picture.height:
            continue
        occupied = [rectangle for _, _, rectangle in placed]
        rectangle, covered = _position(label.box, width, height, picture.size, occupied)
        if label.required or covered == 0:
            placed.append((label, text, rectangle))
    for label, text, rectangle in reversed(placed):
        left, top, _, _ = pen.textbbox((0, 0), text, font=font)
        x, y, right, bottom = rectangle
        pen.rectangle((x, y, right - 1, bottom - 1), fill=label.color)
        # whole pixels: Pillow cuts glyphs off at fractions
        position = (x + _padding(font) - int(left), y + _padding(font) - int(top))
        pen.text(position, text, fill=_text_color(label.color), font=font)
    return [rectangle for _, _, rectangle in placed]


def _font(pen: ImageDraw.ImageDraw, size: tuple[int, int], labels: Sequence[Label]) -> Font:
    """Choose a font that grows with the picture and shrinks if there is much text."""
    area = size[0] * size[1]
    font_size = max(_MIN_FONT, round(area**0.5 / 36))
    font = ImageFont.load_default(size=font_size)
    covered = 0
    for label in labels:
        width, height = _extent(pen, label.text, font)
        covered += width * height
    shrink = min(1.0, max(0.5, (_CROWDED * area / max(covered, 1)) ** 0.5))
    return ImageFont.load_default(size=max(_MIN_FONT, round(font_size * shrink)))


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
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _position(
    box: Sequence[float], width: int, height: int, size: tuple[int, int], occupied: Sequence[Rectangle]
) -> tuple[Rectangle, int]:
    """Return the rectangle at a box that covers the fewest occupied pixels, and their number."""
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
        left = round(min(max(x, 0), size[0] - width))
        top = round(min(max(y, 0), size[1] - height))
        rectangle = (left, top, left + width, top + height)
        covered = sum(_overlap(rectangle, other) for other in occupied)
        if best is None or covered < fewest:
            best, fewest = rectangle, covered
        if fewest == 0:
            break
    assert best is not None
    return best, fewest


def _overlap(a: Rectangle, b: Rectangle) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _text_color(background: str) -> str:
    """Return black or white, whichever is easier to read on ``#RRGGBB`` (W3C's relative luminance)."""
    channels = [int(background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"
