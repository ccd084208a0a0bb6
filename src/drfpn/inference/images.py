"""Conversion of image files, Pillow images and arrays to uint8 tensors."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from drfpn.data.image_io import Remark, convert_pil, load_with_remarks
from drfpn.utils.errors import UserError


class UnreadableInputError(UserError):
    """An image or video file that is missing, damaged or of an unknown format."""


ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor
"""Image file, Pillow image, uint8 array (H, W, 3) in RGB order or (H, W), or uint8 tensor (3, H, W) in RGB order."""


def to_image_tensor(image: ImageLike, warn: Callable[[str], None] | None = None) -> Tensor:
    """Convert an image to a uint8 tensor.

    Args:
        image: file, Pillow image, uint8 array (H, W, 3) or (H, W), or uint8 tensor (3, H, W). Colors are in RGB order;
            OpenCV's BGR array is given as ``array[..., ::-1]``.
        warn: called with one sentence if a file has further pages that are not used, or an image has 16-bit values
            so small that it is nearly black.

    Returns:
        (3, H, W), RGB, uint8. A file and the Pillow image of it give the same: the EXIF orientation is applied,
        transparent pixels are white, and 16 bits are scaled to 8. A tensor is not copied.

    Raises:
        UnreadableInputError: the file is missing or is not an image.
        UserError: the array or tensor has another dtype or shape, or the Pillow image holds floats.
    """
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            actual = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
            raise UserError(f"The image is a tensor of {actual}, expected uint8 (3, height, width).")
        return image
    if isinstance(image, np.ndarray):
        return _from_array(image)
    remarks: list[Remark] = []
    if isinstance(image, Image.Image):
        name = "The image"
        try:
            pixels = convert_pil(image, remarks)
        except (OSError, ValueError) as error:
            raise UserError(f"The Pillow image cannot be used: {str(error).rstrip('.')}.") from error
    elif isinstance(image, str | os.PathLike):
        name = os.fspath(image)
        try:
            pixels, remarks = load_with_remarks(image)
        except UserError as error:
            raise UnreadableInputError(str(error)) from error
    else:
        raise UserError(
            f"The image is a {type(image).__name__}, expected a path, a Pillow image, an array or a tensor."
        )
    if warn is not None:
        for remark in remarks:
            warn(f"{name}: {remark.text}.")
    return pixels


def _from_array(array: NDArray[Any]) -> Tensor:
    """Convert a uint8 array (H, W, 3), RGB, or (H, W), gray.

    Raises:
        UserError: another dtype or shape.
    """
    actual = f"The image is an array of {array.dtype} {array.shape}"
    expected = "expected uint8 (height, width, 3) in RGB order or (height, width)"
    if array.dtype.kind == "f":
        raise UserError(f"{actual}, {expected}; of values from 0 to 1, give (255 * image).round().astype('uint8').")
    if array.dtype != np.uint8:
        raise UserError(f"{actual}, {expected}; of 16-bit gray, give PIL.Image.fromarray(image).")
    if array.ndim == 2:
        array = np.broadcast_to(array[..., None], (*array.shape, 3))
    elif array.ndim == 3 and array.shape[2] == 1:
        array = np.broadcast_to(array, (*array.shape[:2], 3))
    elif array.ndim == 3 and array.shape[2] == 4:
        raise UserError(
            f"{actual}, {expected}; give PIL.Image.fromarray(image) of RGBA, and image[..., 2::-1] of OpenCV's BGRA."
        )
    elif array.ndim == 3 and array.shape[2] != 3 and array.shape[0] == 3:
        raise UserError(f"{actual}, {expected}; give image.transpose(1, 2, 0) or torch.from_numpy(image).")
    elif array.ndim != 3 or array.shape[2] != 3:
        raise UserError(f"{actual}, {expected} ({'one image a call' if array.ndim == 4 else 'OpenCV: [..., ::-1]'}).")
    if 0 in array.shape:
        raise UserError(f"{actual}, {expected} without a side of 0.")
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
