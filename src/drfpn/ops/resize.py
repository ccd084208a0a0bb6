"""Resizing and cropping of maps in a form that holds for any size in an exported graph."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample_corners(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a map bilinearly with aligned corners, as ``F.interpolate(..., align_corners=True)`` does.

    Written as gathers: PyTorch's operator treats sides of one pixel differently, which specializes an exported graph.

    Args:
        x: (N, C, h, w).
        size: height and width of the result.

    Returns:
        (N, C, *size).
    """
    return _interpolate(_interpolate(x, size[0], dim=2), size[1], dim=3)


def _interpolate(x: Tensor, size: int, dim: int) -> Tensor:
    """Resize one dimension of ``x`` to ``size``."""
    last = x.shape[dim] - 1
    dtype = torch.promote_types(x.dtype, torch.float32)
    steps: Any = torch.sym_max(size - 1, 1)
    at = torch.arange(size, device=x.device, dtype=dtype) * last / steps
    before = at.long()
    after = (before + 1).clamp(max=last)
    fraction = (at - before).to(x.dtype).unflatten(0, (-1, *(1 for _ in range(3 - dim))))
    return x.index_select(dim, before).lerp(x.index_select(dim, after), fraction)


def crop_like(m: Tensor, reference: Tensor) -> Tensor:
    """Crop a map to the height and width of another one.

    A strided layer rounds sizes up, the backbone's maps may be rounded down.

    Args:
        m: (..., H, W).
        reference: (..., h, w), h <= H and w <= W.

    Returns:
        (..., h, w).
    """
    if not torch.compiler.is_compiling() and m.shape[-2:] == reference.shape[-2:]:
        return m  # a slice costs a copy in the backward pass
    return m[..., : reference.shape[-2], : reference.shape[-1]]


def pad_or_crop(m: Tensor, size: Sequence[int]) -> Tensor:
    """Crop a map to ``size``, or repeat its last row and column where it is smaller by up to two pixels.

    Args:
        m: (..., H, W).
        size: height and width of the result.

    Returns:
        (..., *size).
    """
    # always padded by more than is needed, then cropped: an exported graph cannot branch on its sizes
    return F.pad(m, (0, 2, 0, 2), mode="replicate")[..., : size[0], : size[1]]
