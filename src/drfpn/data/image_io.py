"""Loading of images: ``load_image``, ``convert_pil`` for Pillow images, ``image_size`` and the EXIF orientation."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, TiffImageFile
from torch import Tensor

from drfpn.data.image_formats import CURES, IMAGE_FORMATS, IMAGE_SUFFIXES, is_image_file
from drfpn.utils.errors import UserError

__all__ = ["IMAGE_SUFFIXES", "convert_pil", "image_size", "is_image_file", "load_image"]

ImageSource = str | os.PathLike[str] | BinaryIO

MAX_PIXELS_VARIABLE = "DRFPN_MAX_IMAGE_PIXELS"
"""Environment variable: number of pixels above which an image is refused; Pillow's limit, 178,956,970, by default."""
BITS_VARIABLE = "DRFPN_IMAGE_BITS"
"""Environment variable: number of bits, 9 to 16, that 16-bit images use whose file does not say; 16 by default."""

# Exceptions of Pillow's readers for damaged files: a broken PNG chunk is a SyntaxError, a short header a
# struct.error, and so on.
_DAMAGED_FILE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

_PAGED_FORMATS = {"AVIF", "DCX", "FLI", "GIF", "HEIF", "PNG", "TIFF", "WEBP"}
"""Formats whose further frames are pictures of their own; those of others are thumbnails, layers or sizes."""
_DARK_BELOW = 2**14
"""A 16-bit image whose values are all smaller looks nearly black: its camera has 10, 12 or 14 bits."""
_SUBFILE_TYPE, _MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE = 254, 281, 341

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


class Remark(NamedTuple):
    """Something about an image that is read otherwise than one may expect."""

    kind: str
    """``"several-pages"`` or ``"dark-16-bit"``."""
    text: str
    """A clause: "it has 4 pages and only the first is used"."""


def load_image(source: ImageSource) -> Tensor:
    """Decode an image file to (3, H, W) RGB, uint8.

    The EXIF orientation is applied. Transparent pixels are composited on white, as in most annotation tools.
    Grayscale is repeated over the three channels. Of a file with several pages or frames the first is loaded.

    16 bits are scaled to 8: 65535 becomes 255. If the file says that fewer bits are used (TIFF's BitsPerSample 12, or
    a MaxSampleValue of 1023, 4095 or the like), or else the environment variable ``DRFPN_IMAGE_BITS``, the largest
    value of these bits becomes 255.

    Args:
        source: a path, or a binary file open for reading.

    Raises:
        UserError: the file is missing, truncated, not an image that can be decoded, or has more pixels than the
            environment variable ``DRFPN_MAX_IMAGE_PIXELS`` allows.
    """
    with _open(source) as image:
        return convert_pil(image)


def load_with_remarks(source: ImageSource) -> tuple[Tensor, list[Remark]]:
    """Return ``load_image(source)`` and what a user should know of it.

    Args:
        source: a path, or a binary file open for reading.

    Raises:
        UserError: as of ``load_image``.
    """
    remarks: list[Remark] = []
    with _open(source) as image:
        has_pages = image.format in _PAGED_FORMATS
        pixels = convert_pil(image, remarks)
    pages = _count_pages(source) if has_pages else 1
    if pages > 1:
        remarks.append(Remark("several-pages", f"it has {pages} pages or frames, of which only the first is used"))
    return pixels, remarks


def convert_pil(image: Image.Image, remarks: list[Remark] | None = None) -> Tensor:
    """Convert a Pillow image to (3, H, W) RGB, uint8, as ``load_image`` does with a file.

    Args:
        image: of any mode but floats.
        remarks: a remark is appended if its 16-bit values are so small that it becomes nearly black.

    Raises:
        ValueError: its pixels are floats or integers of more than 16 bits.
    """
    raw_mode = _raw_mode(image)
    image.load()  # before the EXIF data: Pillow decodes a PNG to read them, and then ignores errors
    orientation = orientation_of(image)
    rgb = _to_rgb(image, raw_mode, remarks)
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
    with _open(source) as image:
        orientation = orientation_of(image)
        width, height = image.size
        if isinstance(image, TiffImageFile):  # newer Pillows have rotated the size already
            width, height = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return ((width, height) if orientation >= 5 else (height, width)), orientation


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none or it cannot be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED_FILE_ERRORS:  # the pixels may be intact although the metadata is not
        return 1
    return orientation if orientation in _TO_UPRIGHT else 1


@contextmanager
def _open(source: ImageSource) -> Iterator[Image.Image]:
    """Open an image of one of the formats that are read (others may start programs), and translate Pillow's errors."""
    limit = _pixel_limit()
    if limit is not None:
        Image.MAX_IMAGE_PIXELS = limit
    try:
        with Image.open(_checked(source), formats=IMAGE_FORMATS) as image:
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError
            yield image
    except UserError:
        raise
    except _DAMAGED_FILE_ERRORS as error:
        raise _undecodable(source, error) from error


def _to_rgb(image: Image.Image, raw_mode: str, remarks: list[Remark] | None) -> Image.Image:
    if image.mode.startswith("I"):  # I;16 and its byte orders; I is how older Pillows open 16-bit PNG
        return Image.fromarray(_to_eight_bits(np.asarray(image), _stated_bits(image), remarks)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floats without a known range; expected 8 or 16 bits a channel")
    if image.mode.lower() in ("rgba", "la", "pa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        rgb = image.convert("RGB")
    if ";16" in raw_mode:  # Pillow has kept the upper 8 bits of each channel
        _check_upper_bits(rgb, remarks)
    return rgb


def _to_eight_bits(values: NDArray[np.int32], bits: int | None, remarks: list[Remark] | None) -> NDArray[np.uint8]:
    """Scale 16-bit values to 8 bits; ``bits`` are those that the file says it uses."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(f"its pixels are integers from {low} to {high}; expected 8 or 16 bits a channel")
    if bits is None:
        bits = _default_bits()
        if bits == 16 and remarks is not None and 0 < high < _DARK_BELOW:
            remarks.append(_dark_remark(f"at most {high} of 65535"))
    top = 2**bits - 1
    return ((values.astype(np.int64).clip(0, top) * 255 + top // 2) // top).astype(np.uint8)


def _check_upper_bits(image: Image.Image, remarks: list[Remark] | None) -> None:
    """Raise or add a remark if the upper 8 of 16 bits of a color image are nearly black."""
    if _default_bits() < 16:
        raise ValueError(
            f"its colors have 16 bits, of which the upper 8 are read; {BITS_VARIABLE} is for one channel, expected "
            "colors of 8 bits"
        )
    high = max(int(extremum[1]) for extremum in image.getextrema() if isinstance(extremum, tuple))
    if remarks is not None and 0 < high < _DARK_BELOW // 256:
        remarks.append(_dark_remark(f"below {256 * (high + 1)} of 65536"))


def _dark_remark(range_: str) -> Remark:
    text = f"its 16-bit values are {range_} and it is read as nearly black ({BITS_VARIABLE}=12 is for 12-bit cameras)"
    return Remark("dark-16-bit", text)


def _raw_mode(image: Image.Image) -> str:
    """Return how pixels are stored in the file, such as ``"RGB;16B"``; empty for an image that is loaded."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _stated_bits(image: Image.Image) -> int | None:
    """Return the number of bits of a channel that the file of a 16-bit image says it uses; ``None`` if it does not.

    PNG's sBIT does not say so: values of fewer significant bits are stored scaled up to 16.
    """
    if not isinstance(image, TiffImageFile):
        return None
    (bits, *_) = image.tag_v2.get(BITSPERSAMPLE, (16,))
    if 8 < bits < 16:
        return int(bits)
    for tag in (_S_MAX_SAMPLE_VALUE, _MAX_SAMPLE_VALUE):
        value = image.tag_v2.get(tag)
        largest = value[0] if isinstance(value, tuple) and value else value
        for bits in range(9, 16):  # a largest value of the picture itself is no such number
            if largest == 2**bits - 1:
                return bits
    return None


def _default_bits() -> int:
    text = os.environ.get(BITS_VARIABLE, "").strip() or "16"
    if not text.isdecimal() or not 9 <= int(text) <= 16:
        raise UserError(f"The environment variable {BITS_VARIABLE} is '{text}', expected a number of bits, 9 to 16.")
    return int(text)


def _pixel_limit() -> int | None:
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return None
    if not text.replace("_", "").isdecimal() or int(text) == 0:
        raise UserError(f"The environment variable {MAX_PIXELS_VARIABLE} is '{text}', expected a number of pixels.")
    return int(text)


def _count_pages(source: ImageSource) -> int:
    """Return the number of pages or frames, without the thumbnails and the reduced copies of a TIFF file.

    The file is opened again: decoding has moved on, and another page may be damaged although the first is not.
    """
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
    try:
        with _open(source) as image:
            frames = int(getattr(image, "n_frames", 1))
            if not isinstance(image, TiffImageFile) or frames == 1:
                return frames
            pages = 0
            for frame in range(frames):
                image.seek(frame)
                pages += not int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & 1
            return pages
    except UserError:  # the first page is intact
        return 1


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
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        limit = _pixel_limit() or 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return UserError(
            f"{name} cannot be decoded: it has more than {limit:,} pixels, the limit against malicious files; "
            f"set the environment variable {MAX_PIXELS_VARIABLE} to a larger number of pixels to read it."
        )
    if isinstance(error, UnidentifiedImageError):  # its text repeats the name
        suffix = Path(name).suffix.lower()
        if suffix in CURES and suffix not in IMAGE_SUFFIXES:
            return UserError(f"{name} cannot be decoded: '{suffix}' needs a package; '{CURES[suffix]}' installs it.")
        return UserError(f"{name} cannot be decoded: it is not an image in a format that Pillow supports.")
    return UserError(f"{name} cannot be decoded: {str(error).rstrip('.')}.")
