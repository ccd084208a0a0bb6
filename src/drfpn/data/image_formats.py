"""Which files are images: suffixes that Pillow can decode here, hidden files, and the files of a folder."""

import os
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from PIL import Image, features

_NOT_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "PALM", "PDF", "WMF"}
"""Formats that Pillow registers but that are drawn by other programs, hold no picture, or can only be written."""

_OPTIONAL_CODECS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
"""Formats that a build of Pillow may lack, with the name of their codec in ``PIL.features``."""

_PLUGINS = {"pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"}
"""Modules that add formats to Pillow, and the packages that hold them."""

CURES = {
    **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), "pip install pillow-heif"),
    ".jxl": "pip install pillow-jxl-plugin",
    **dict.fromkeys((".avif", ".avifs", ".j2k", ".jp2", ".jpg2", ".jpx", ".webp"), "pip install --upgrade pillow"),
}
"""What makes a suffix readable that is not in ``IMAGE_SUFFIXES``."""

_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}
"""Files and folders that file managers leave behind, in lower case."""


def _load_plugins() -> None:
    """Register the formats of installed plugins with Pillow."""
    for module in _PLUGINS:
        with suppress(ImportError):
            plugin = import_module(module)
            if hasattr(plugin, "register_heif_opener"):
                plugin.register_heif_opener()


def _decodable_formats() -> tuple[str, ...]:
    return tuple(
        name
        for name in Image.ID
        if name not in _NOT_PICTURES and (name not in _OPTIONAL_CODECS or features.check(_OPTIONAL_CODECS[name]))
    )


_load_plugins()
Image.init()
IMAGE_FORMATS = _decodable_formats()
"""Pillow's names of the formats that are read, in the order in which it tries them."""
IMAGE_SUFFIXES = tuple(
    sorted(
        {suffix for suffix, name in Image.registered_extensions().items() if name in {*IMAGE_FORMATS, "MPO"}}
        | ({".jpg2"} if "JPEG2000" in IMAGE_FORMATS else set())
    )
)
"""Lower-case suffixes of the image files that can be decoded here."""
COMMON_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Those to name in messages."""


def is_image_file(path: Path) -> bool:
    """Return whether a path has the suffix of an image that can be decoded here and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path.name)


def is_undecodable_image(path: Path) -> bool:
    """Return whether a path has the suffix of an image that needs another package to be decoded, and is not hidden."""
    suffix = path.suffix.lower()
    return suffix in CURES and suffix not in IMAGE_SUFFIXES and not is_hidden(path.name)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or left behind by a file manager: ``._x.jpg``, ``Thumbs.db``.

    Args:
        name: last part of its path.
    """
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def walk_files(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the files below a folder in no order, through linked folders too; hidden files and folders are left out.

    Broken links are yielded. A link to one of the folders that it lies in is not followed.

    Args:
        folder: the folder; nothing is yielded if it does not exist.
    """
    yield from map(Path, _walk(os.fspath(folder), (os.path.realpath(folder),)))


def _walk(folder: str, ancestors: tuple[str, ...]) -> Iterator[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if is_hidden(entry.name):
            continue
        if not entry.is_dir():
            yield entry.path
        elif not entry.is_symlink():
            yield from _walk(entry.path, (*ancestors, os.path.realpath(entry.path)))
        elif (target := os.path.realpath(entry.path)) not in ancestors:
            yield from _walk(entry.path, (*ancestors, target))
