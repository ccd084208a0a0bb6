"""Loading of image files: ``load_image``, ``image_size`` and the EXIF orientation."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile
from torch import Tensor

from drfpn.utils.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def is_image_file(path: Path) -> bool:
    """Return whether a path has the suffix of an image file and is not hidden."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


ImageSource = str | os.PathLike[str] | BinaryIO

# Exceptions of Pillow's readers for damaged files: a broken PNG chunk is a SyntaxError, a short header a
# struct.error, and so on.
_DAMAGED_FILE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

_ORIENTATION_TAG = 0x0112
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(source: ImageSource) -> Tensor:
    """Decode an image file to (3, H, W) RGB, uint8.

    The EXIF orientation is applied. Transparent pixels are composited on white, as in most annotation tools.
    Grayscale is repeated over the three channels, and 16 bits are scaled to 8 (65535 becomes 255). Of an animated
    file the first frame is loaded.

    Args:
        source: a path, or a binary file open for reading.

    Raises:
        UserError: the file is missing, truncated, or not an image that can be decoded.
    """
    try:
        with Image.open(_checked(source)) as image:
            image.load()  # before the EXIF data: Pillow decodes a PNG to read them, and then ignores errors
            orientation = orientation_of(image)
            rgb = _to_rgb(image)
    except _DAMAGED_FILE_ERRORS as error:
        raise _undecodable(source, error) from error
    if orientation in _TO_UPRIGHT:
        rgb = rgb.transpose(_TO_UPRIGHT[orientation])
    return torch.from_numpy(np.array(rgb, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def image_size(source: ImageSource) -> tuple[int, int]:
    """Return the (height, width) of ``load_image``, read from the header alone.

    Args:
        source: a path, or a binary file open for reading.

    Raises:
        UserError: the file is missing or has no header that can be read.
    """
    return read_header(source)[0]


def read_header(source: ImageSource) -> tuple[tuple[int, int], int]:
    """Return (height, width) with the EXIF orientation applied, and that orientation (1, as stored, to 8).

    Args:
        source: a path, or a binary file open for reading.

    Raises:
        UserError: the file is missing or has no header that can be read.
    """
    try:
        with Image.open(_checked(source)) as image:
            orientation = orientation_of(image)
            width, height = image.size
            if isinstance(image, TiffImageFile):  # newer Pillows have rotated the size already
                width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    except _DAMAGED_FILE_ERRORS as error:
        raise _undecodable(source, error) from error
    return ((width, height) if orientation >= 5 else (height, width)), orientation


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none or it cannot be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED_FILE_ERRORS:  # the pixels may be intact although the metadata is not
        return 1
    return orientation if orientation in _TO_UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # I;16 and its byte orders; I is how older Pillows open 16-bit PNG
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floats without a known range; expected 8 or 16 bits a channel")
    if image.mode.lower() in ("rgba", "la", "pa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _checked(source: ImageSource) -> Path | BinaryIO:
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if not path.is_file():
        state = "a folder" if path.is_dir() else "missing"
        raise UserError(f"{path} is {state}, expected an image file.")
    return path


def _undecodable(source: ImageSource, error: Exception) -> UserError:
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
    else:
        name = str(getattr(source, "name", "The image"))
    if isinstance(error, UnidentifiedImageError):  # its text repeats the name
        return UserError(f"{name} cannot be decoded: it is not an image in a format that Pillow supports.")
    return UserError(f"{name} cannot be decoded: {str(error).rstrip('.')}.")
