"""Text beside boxes: inside of the picture, and not over other text as long as there is room."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_MIN_FONT = 10
"""Pixels; smaller letters cannot be read."""
_CROWDED = 0.12
"""Share of the picture that text may cover before its letters shrink, to one half at most."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom lie outside."""


@dataclass(frozen=True)
class Label:
    """What to write at a box."""

    text: str
    box: Sequence[float]
    """x1, y1, x2, y2 in pixels."""
    colour: str
    """Of the ground, ``#RRGGBB``."""
    must: bool = True
    """Whether to write it even over other text; else it is left out where there is no room."""


def write_labels(picture: Image.Image, labels: Sequence[Label]) -> list[Rectangle]:
    """Write labels on a picture.

    Args:
        picture: drawn on.
        labels: the first choose their places first, and lie on top of others.

    Returns:
        Where each label that was written stands, in their order.
    """
    pen = ImageDraw.Draw(picture)
    font = _font(pen, picture.size, labels)
    placed: list[tuple[Label, str, Rectangle]] = []
    for label in labels:
        text = _shortened(label.text, font, picture.width - 2 * _pad(font))
        width, height = _extent(pen, text, font)
        if width > picture.width or height > picture.height:
            continue
        taken = [where for _, _, where in placed]
        where, covered = _place(label.box, width, height, picture.size, taken)
        if label.must or covered == 0:
            placed.append((label, text, where))
    for label, text, where in reversed(placed):
        left, top, _, _ = pen.textbbox((0, 0), text, font=font)
        pen.rectangle((where[0], where[1], where[2] - 1, where[3] - 1), fill=label.colour)
        # whole pixels: Pillow cuts glyphs off at fractions
        at = (where[0] + _pad(font) - int(left), where[1] + _pad(font) - int(top))
        pen.text(at, text, fill=_ink(label.colour), font=font)
    return [where for _, _, where in placed]


def _font(pen: ImageDraw.ImageDraw, size: tuple[int, int], labels: Sequence[Label]) -> Font:
    """Choose letters that grow with the picture and shrink where much is to be written."""
    area = size[0] * size[1]
    letters = max(_MIN_FONT, round(area**0.5 / 36))
    font = ImageFont.load_default(size=letters)
    covered = 0
    for label in labels:
        width, height = _extent(pen, label.text, font)
        covered += width * height
    shrink = min(1.0, max(0.5, (_CROWDED * area / max(covered, 1)) ** 0.5))
    return ImageFont.load_default(size=max(_MIN_FONT, round(letters * shrink)))


def _extent(pen: ImageDraw.ImageDraw, text: str, font: Font) -> tuple[int, int]:
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    return int(right) - int(left) + 2 * _pad(font), int(bottom) - int(top) + 2 * _pad(font)


def _pad(font: Font) -> int:
    """Return how far the ground reaches beyond the letters, pixels."""
    return max(2, round(font.getbbox("0")[3] / 5))


def _shortened(text: str, font: Font, width: int) -> str:
    """Cut the end of a text off that is wider than ``width``."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _place(
    box: Sequence[float], width: int, height: int, size: tuple[int, int], taken: Sequence[Rectangle]
) -> tuple[Rectangle, int]:
    """Return the place at a box that covers the least of what is taken, and how many pixels that is."""
    x1, y1, x2, y2 = box
    best: Rectangle | None = None
    least = 0
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
        where = (left, top, left + width, top + height)
        covered = sum(_overlap(where, other) for other in taken)
        if best is None or covered < least:
            best, least = where, covered
        if least == 0:
            break
    assert best is not None
    return best, least


def _overlap(a: Rectangle, b: Rectangle) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _ink(ground: str) -> str:
    """Return black or white, whichever is easier to read on ``#RRGGBB`` (W3C's relative luminance)."""
    shares = [int(ground[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"
