"""Images as callers have them: files, Pillow's, tensors."""

import os

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from drfpn.data import load_image
from drfpn.utils.errors import UserError


class Unreadable(UserError):
    """An input that cannot be read, which is no reason to stop at it."""


ImageLike = str | os.PathLike[str] | Image.Image | Tensor


def as_image(image: ImageLike) -> Tensor:
    """Return an image as uint8 (3, H, W), RGB; of files and Pillow images the EXIF orientation is applied.

    Raises:
        Unreadable: a file that is missing or no image.
        UserError: a tensor of another form.
    """
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3:
            found = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
            raise UserError(f"The image is a tensor of {found}, expected uint8 (3, height, width).")
        return image
    if isinstance(image, Image.Image):
        return pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB"))
    try:
        return load_image(image)
    except UserError as error:
        raise Unreadable(str(error)) from error
