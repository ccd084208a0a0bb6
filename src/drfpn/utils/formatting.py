"""Formatting of numbers and names for tables, figures and reports."""

import unicodedata

MAX_NAME_LENGTH = 60
"""Characters up to which a name is written in full."""


def percent(fraction: float | None) -> str:
    """Format a metric in percent; a dash for one that is not defined.

    Args:
        fraction: value in [0, 1]; ``None``, or -1 as in COCO's own output, where the data has no such object.
    """
    return "-" if fraction is None or not fraction >= 0 else f"{100 * fraction:.1f}"


def printable(name: str, max_length: int | None = MAX_NAME_LENGTH) -> str:
    r"""Return a name of a class, a file or a run in one line of visible characters.

    Control characters are written as in Python (``\n``), and the middle of a long name is left out.

    Args:
        name: any text.
        max_length: characters of the result; ``None`` for all.
    """
    text = "".join(escape_character(c) if unicodedata.category(c) in _INVISIBLE else c for c in name)
    if max_length is None or len(text) <= max_length:
        return text
    head = (max_length - 3) // 2
    return f"{text[:head]}...{text[-(max_length - 3 - head) :]}"


def escape_markdown(text: str) -> str:
    """Return Markdown that shows a text literally, without formatting, HTML and formulas.

    Args:
        text: plain text, such as the name of a class.
    """
    return "".join(f"&#{ord(c)};" if c in _MARKDOWN else c for c in printable(text, None))


def escape_character(character: str) -> str:
    r"""Return a character as in a Python string without Unicode: ``\n``, ``\xe9`` or ``\u87ba``.

    Args:
        character: one character.
    """
    return character.encode("unicode_escape").decode()


_MARKDOWN = r"\`*_{}[]()<>#+-!|&$~:"
"""Characters with a meaning in Markdown, HTML or formulas."""
_INVISIBLE = ("Cc", "Cs", "Zl", "Zp")
"""Categories of control characters, unpaired surrogates and separators of lines and paragraphs."""
