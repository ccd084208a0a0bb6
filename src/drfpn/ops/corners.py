"""Bilinear sampling as a weighted sum of four pixels: their indices and weights."""

from typing import Literal

import torch
from torch import Tensor

Padding = Literal["border", "zeros"]
"""What lies outside of a map: the values of its border, or zeros."""


def corners(positions: Tensor, height: int, width: int, padding: Padding = "border") -> tuple[Tensor, Tensor]:
    """Return the four pixels of a map around each position, and their weights in bilinear interpolation.

    Args:
        positions: (N, H, W, 2), normalized (x, y) with ``align_corners=False``.
        height: height of the map.
        width: width of the map.
        padding: with zeros, pixels outside of the map have weight 0.

    Returns:
        Indices of pixels in row-major order, and weights, (N, H, W, 4). Indices are valid for any position.
    """
    x = ((positions[..., 0] + 1) * width - 1) / 2  # pixels of the map
    y = ((positions[..., 1] + 1) * height - 1) / 2
    if padding == "border":
        x, y = _clamp_to_border(x, width - 1), _clamp_to_border(y, height - 1)
    return pixel_corners(x, y, height, width)


def _clamp_to_border(position: Tensor, last: int) -> Tensor:
    """Clamp to a map's pixels 0 to ``last``; positions on the border get no gradient, as in ``grid_sample``."""
    return torch.where((position > 0) & (position < last), position, position.detach().clamp(0, last))


def pixel_corners(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the four pixels of a map around each point, and their weights, as :func:`corners` does with zeros outside.

    A point on a pixel has the gradient of a step to the right and down, as with the libraries' operators.

    Args:
        x: (...), in pixels of the map.
        y: as ``x``.
        height: height of the map.
        width: width of the map.

    Returns:
        Indices of pixels and weights, (..., 4).
    """
    column, column_weight = _neighbors(x, width)
    row, row_weight = _neighbors(y, height)
    index = row[..., None, :] * width + column[..., None]
    return index.flatten(-2), (column_weight[..., None] * row_weight[..., None, :]).flatten(-2)


def _neighbors(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the pixels before and after each point along one axis, and their weights, (..., 2)."""
    before = position.detach().floor()
    fraction = position - before
    pixel = torch.stack([before, before + 1], dim=-1)
    inside = (pixel >= 0) & (pixel < size)
    return pixel.long().clamp_(0, size - 1), torch.stack([1 - fraction, fraction], dim=-1) * inside
