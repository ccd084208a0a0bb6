"""HTML of the reports: self-contained pages with embedded figures."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from drfpn.utils.formatting import printable

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #ddd; }
td + td, th + th { text-align: right; } img { max-width: 100%; }
pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; }
figure { margin: 1rem 0; } figcaption { color: #555; font-size: .9rem; }
"""


def write_page(file: Path, title: str, body: Iterable[str]) -> Path:
    """Write an HTML page.

    Args:
        file: the page.
        title: title of the page, plain text.
        body: HTML elements in order.
    """
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{_escape(title)}</title>"
    parts = "\n".join([f"<h1>{_escape(title)}</h1>", *body])
    page = f"{head}<style>{_STYLE}</style>\n{parts}</html>\n"
    file.write_text(page, encoding="utf-8", errors="backslashreplace")  # file names need not be Unicode
    return file


def _escape(text: str) -> str:
    """Return HTML that shows a text literally."""
    return html.escape(printable(text, None))


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{_escape(text)}</p>"


def heading(text: str) -> str:
    """Return the heading of a section in plain text."""
    return f"<h2>{_escape(text)}</h2>"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return a table of rows of plain text; the first row is the header."""
    header, *others = rows
    cells = "".join(f"<th>{_escape(cell)}</th>" for cell in header)
    lines = ["<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in row) + "</tr>" for row in others]
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"


def figure(file: Path, caption: str) -> str:
    """Return an embedded PNG or JPEG file with its caption."""
    subtype = "png" if file.suffix == ".png" else "jpeg"
    data = base64.b64encode(file.read_bytes()).decode()
    text = _escape(caption)
    return (
        f"<figure><img alt='{text}' src='data:image/{subtype};base64,{data}'><figcaption>{text}</figcaption></figure>"
    )
