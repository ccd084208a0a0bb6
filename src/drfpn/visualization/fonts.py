"""Text in figures and pictures: names are drawn literally, in a font that has their characters."""

import io
import logging
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.legend import Legend
from matplotlib.text import Text
from PIL import ImageFont

from drfpn.utils.formatting import MAX_NAME_LENGTH, escape_character, printable

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
DEFAULT_FAMILY = "DejaVu Sans"
"""Font that matplotlib ships."""


def figure_name(name: str, max_length: int = MAX_NAME_LENGTH) -> str:
    r"""Return a name as it is drawn in a figure of :func:`save_figure`.

    Characters that no font of this system has are escaped (``\u87ba``), and a warning says so once.

    Args:
        name: name of a class, a run or a detector.
        max_length: characters of the result; the middle of a longer name is left out.
    """
    return _escape_missing(printable(name, max_length), lambda character: find_font(character) is not None)


def save_figure(figure: Figure, file: Path | BinaryIO, format: str | None = None, *, dpi: int = 110) -> None:
    r"""Write a figure whose texts are drawn literally: ``$`` does not start a formula.

    Args:
        figure: the figure.
        file: path, or a file that is open for writing.
        format: ``"png"``, ``"pdf"`` or ``"svg"``; ``None``: by the name of the file, or PNG.
        dpi: pixels per inch.
    """
    FigureCanvasAgg(figure)
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    characters = {c for text in texts for c in text.get_text() if not c.isascii()}
    fonts = [font.family for font in map(find_font, sorted(characters)) if font is not None]
    for text in texts:
        text.set_parse_math(False)
        text.set_usetex(False)
        if characters:
            text.set_fontfamily(list(dict.fromkeys([DEFAULT_FAMILY, *fonts])))
    figure.savefig(file, dpi=dpi, format=format)


def write_legend(legend: Legend, names: Iterable[str]) -> None:
    """Write names in a legend; as labels of artists, matplotlib would leave out those that start with ``_``.

    Args:
        legend: legend with an entry for each name.
        names: name of each entry.
    """
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(figure_name(name, 40))


def load_font(texts: Iterable[str], size: float) -> tuple[Font, Callable[[str], str]]:
    """Return a font of Pillow for some texts, and a function that escapes what it lacks in a text.

    Pillow draws a text in one font, so it is the one that has most of the characters.

    Args:
        texts: texts to draw.
        size: font size, pixels.
    """
    characters = {c for text in texts for c in text if not c.isascii()}
    if not characters:
        return ImageFont.load_default(size=size), lambda text: printable(text, None)
    fonts = [_default_font(), *(font for font in map(find_font, sorted(characters)) if font is not None)]
    font = max(fonts, key=lambda font: sum(font.has(c) for c in characters))
    return ImageFont.truetype(font.path, size), lambda text: _escape_missing(printable(text, None), font.has)


class FontFile:
    """A font of this system.

    Args:
        path: the file.
        family: its family in matplotlib.
    """

    def __init__(self, path: str, family: str) -> None:
        self.path = path
        self.family = family
        self._codes = np.array(sorted(FT2Font(path).get_charmap()), dtype=np.uint32)  # an open face keeps its file open

    def has(self, character: str) -> bool:
        """Return whether the font has a character."""
        i = int(np.searchsorted(self._codes, ord(character)))
        return i < len(self._codes) and int(self._codes[i]) == ord(character)


@cache
def find_font(character: str) -> FontFile | None:
    """Return a font that has a character: matplotlib's, else the first one of the system.

    Args:
        character: one character.
    """
    fonts = [_default_font()] if character.isascii() else [_default_font(), *_system_fonts()]
    return next((font for font in fonts if font.has(character)), None)


@cache
def _default_font() -> FontFile:
    return FontFile(str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")), DEFAULT_FAMILY)


@cache
def _system_fonts() -> Sequence[FontFile]:
    """Return the upright fonts of the system; those without serifs and of regular weight are first."""

    def order(entry: Any) -> tuple[bool, bool, str]:
        return entry.weight not in (400, "normal", "regular"), "sans" not in entry.name.lower(), entry.name

    own = matplotlib.get_data_path()  # its other fonts are for formulas
    fonts = []
    for entry in sorted(fontManager.ttflist, key=order):
        # "Last Resort" has a box for every character
        unsuitable = any(word in entry.name.replace(" ", "") for word in ("Color", "LastResort"))
        if entry.style != "normal" or entry.fname.startswith(own) or unsuitable:
            continue
        try:
            fonts.append(FontFile(entry.fname, entry.name))
        except (OSError, RuntimeError, ValueError):  # removed since matplotlib listed it, or bitmaps
            continue
    return fonts


def _escape_missing(text: str, has: Callable[[str], bool]) -> str:
    """Escape the characters that a font lacks; those without a shape of their own are left out."""
    if text.isascii():
        return text
    result = io.StringIO()
    for character in text:
        if character.isascii() or has(character):
            result.write(character)
        elif unicodedata.category(character) != "Cf" and not "\ufe00" <= character <= "\ufe0f":
            result.write(escape_character(character))
            _warn_of_missing_fonts()
    return result.getvalue()


@cache
def _warn_of_missing_fonts() -> None:
    logger.warning(
        "Some characters of the names are in none of this system's fonts, so figures and pictures have their codes "
        r"(such as \u87ba): install a font that has them, such as Noto Sans CJK for Chinese."
    )
