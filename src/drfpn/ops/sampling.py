"""Bilinear sampling at learned positions (Eqs. 2 and 3 of the paper).

Convention, here and in all that builds on it:

- positions are ``(x, y)`` and normalised: -1 and 1 are the outer borders of the map (``align_corners=False``),
  so the map of W pixels spans 2 units and one of its pixels 2 / W;
- grids are made from ``torch.arange``, since an exported ``linspace`` with a symbolic size fails at other sizes;
- positions are computed in float32 at least, under autocast too, which lowers none of the operations used here:
  bfloat16 cannot tell neighbouring pixels of a map of 300 apart.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["border", "zeros"]


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return the pixel centres of a map as normalised positions (height, width, 2)."""
    # one division of exact integers: as close as the dtype allows
    y = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 + (1 - height)) / height
    x = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 + (1 - width)) / width
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


def corner_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return positions (height, width, 2) whose first and last row and column lie at -1 and 1.

    The authors' release lays its grid out like this. Read with ``align_corners=False`` the outermost positions
    lie half a pixel outside of the outermost pixel centres.
    """
    rows, columns = height - 1, width - 1
    y = (torch.arange(height, device=like.device, dtype=like.dtype) * 2 - rows) / max(rows, 1)
    x = (torch.arange(width, device=like.device, dtype=like.dtype) * 2 - columns) / max(columns, 1)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


def sample(image: Tensor, positions: Tensor, padding: Padding = "border") -> Tensor:
    """Read ``image`` bilinearly at ``positions`` (Eq. 3).

    Takes plain gathers where ``grid_sample`` has no backward (MPS) or no deterministic one (CUDA under
    ``torch.use_deterministic_algorithms``). The dtype of ``image`` is kept; the arithmetic is done in that of
    ``positions``.

    Args:
        image: (N, C, h, w).
        positions: (N, H, W, 2), normalised (x, y).
        padding: what lies outside: the border's values, or zeros.

    Returns:
        (N, C, H, W).
    """
    # in training: backwards leave their memory at a position that is no number
    where = positions.nan_to_num() if positions.requires_grad else positions
    # grid_sample's backward on CUDA adds with atomics and refuses to run when told to be deterministic
    deterministic = image.device.type == "cuda" and torch.are_deterministic_algorithms_enabled()
    if image.device.type == "mps" or deterministic:
        read = sample_by_gathers(image, where, padding)
    else:
        values = image.to(positions.dtype)
        read = F.grid_sample(values, where, mode="bilinear", padding_mode=padding, align_corners=False)
    if positions.requires_grad:
        read = read + (positions - where).sum(dim=-1)[:, None]  # yet such a position must be seen: it gives NaN
    return read.to(image.dtype)


def sample_by_gathers(image: Tensor, positions: Tensor, padding: Padding = "border") -> Tensor:
    """Do what :func:`sample` does with ``gather`` alone: slower, but with a backward everywhere."""
    height, width = image.shape[-2:]
    x = ((positions[..., 0] + 1) * width - 1) / 2  # pixels of image
    y = ((positions[..., 1] + 1) * height - 1) / 2
    if padding == "border":
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    flat = image.to(positions.dtype).flatten(2)  # (N, C, h w)

    result = torch.zeros(())
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = left + dx, top + dy
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())  # (N, H, W)
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            values = flat.gather(2, index.flatten(1)[:, None].expand(-1, flat.shape[1], -1))
            corner = values.unflatten(2, index.shape[1:]) * (weight * inside)[:, None]
            result = corner if dx == dy == 0 else result + corner
    return result.to(image.dtype)


def _positions(grid: Tensor, shift: Tensor) -> Tensor:
    return grid + shift.permute(0, 2, 3, 1)  # (N, H, W, 2)


def _at_least_float32(offset: Tensor) -> Tensor:
    return offset.to(torch.promote_types(offset.dtype, torch.float32))


def warp(coarse: Tensor, offset: Tensor) -> Tensor:
    """Read ``coarse`` at the pixels of the finer map moved by ``offset`` (Eq. 2).

    Convention:
        - a position moves by ``2 offset / (H + W)`` normalised units, H and W of the finer map: by
          ``offset W / (H + W)`` of its pixels in x and ``offset H / (H + W)`` in y, half a pixel a unit where H = W;
        - the grid is at pixel centres and the border repeats: a zero offset is bilinear upsampling exactly.

    Args:
        coarse: (N, C, h, w).
        offset: (N, 2, H, W), (x, y).

    Returns:
        (N, C, H, W).
    """
    delta = _at_least_float32(offset)
    height, width = delta.shape[-2:]
    return sample(coarse, _positions(pixel_grid(height, width, delta), delta * 2 / (height + width)))


def warp_released(coarse: Tensor, offset: Tensor) -> Tensor:
    """Read ``coarse`` as the authors' release does.

    Convention:
        - a position moves by ``offset / (W, H)`` normalised units, half a pixel of the finer map a unit;
        - the grid has its corners at -1 and 1 and zeros lie outside: with a zero offset and a map of ones the
          result is 1/4 in the corners, 1/2 along the edges and 1 inside.

    Args and result as in :func:`warp`.
    """
    delta = _at_least_float32(offset)
    height, width = delta.shape[-2:]
    shift = torch.stack([delta[:, 0] / width, delta[:, 1] / height], dim=1)
    return sample(coarse, _positions(corner_grid(height, width, delta), shift), padding="zeros")
