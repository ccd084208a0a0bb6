"""Conversion of image files and Pillow images to uint8 tensors."""

import os

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from drfpn.data import load_image
from drfpn.utils.errors import UserError


class UnreadableInputError(UserError):
    """An image or video file that is missing, damaged or of an unknown format."""


ImageLike = str | os.PathLike[str] | Image.Image | Tensor
"""Image file, Pillow image, or uint8 tensor (3, H, W)."""


def to_image_tensor(image: ImageLike) -> Tensor:
    """Convert an image to a uint8 tensor.

    Args:
        image: file, Pillow image, or uint8 tensor (3, H, W), RGB.

    Returns:
        (3, H, W), RGB, uint8. The EXIF orientation of files and Pillow images is applied; a tensor is not copied.

    Raises:
        UnreadableInputError: the file is missing or is not an image.
        UserError: the tensor has another dtype or shape.
    """
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            actual = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
            raise UserError(f"The image is a tensor of {actual}, expected uint8 (3, height, width).")
        return image
    if isinstance(image, Image.Image):
        return pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB"))
    try:
        return load_image(image)
    except UserError as error:
        raise UnreadableInputError(str(error)) from error
