"""Bilinear sampling at learned positions (Eqs. 2 and 3 of the paper).

Convention of all functions here:

- positions are ``(x, y)`` and normalized: -1 and 1 are the outer borders of the map (``align_corners=False``),
  so a map of W pixels spans 2 units and one of its pixels 2 / W;
- grids are made by ``torch.arange``, since an exported ``linspace`` of a symbolic size is wrong at other sizes;
- positions are computed in float32 at least, also under autocast, which lowers none of the operations used here:
  bfloat16 cannot resolve neighboring pixels of a map of 300.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops import dispatch
from drfpn.ops.corners import Padding, corners
from drfpn.ops.nan_guard import propagate_nan, replace_nan

Grid = Callable[[int, int, Tensor], Tensor]
"""(height, width, reference) -> normalized positions (height, width, 2), of the reference's dtype and device."""


def cached_grid(grid: Grid) -> Grid:
    """Cache the grids of the last 64 sizes: a neck needs the same ones each time, and each takes nine small kernels."""

    @lru_cache(maxsize=64)
    def cached(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # a tensor of inference mode could not be used in training
            return grid(height, width, torch.empty((), device=device, dtype=dtype))

    @wraps(grid)
    def get(height: int, width: int, reference: Tensor) -> Tensor:
        # not for subclasses of Tensor, nor in a CUDA graph, whose memory belongs to the graph
        capturing = reference.is_cuda and torch.cuda.is_current_stream_capturing()
        if torch.compiler.is_compiling() or type(reference) is not Tensor or capturing:
            return grid(height, width, reference)
        return cached(height, width, reference.device, reference.dtype)

    return get


@cached_grid
def pixel_grid(height: int, width: int, reference: Tensor) -> Tensor:
    """Return the pixel centers of a map as normalized positions.

    Args:
        height: height of the map.
        width: width of the map.
        reference: a tensor of the dtype and on the device of the result.

    Returns:
        (height, width, 2).
    """
    # one division of exact integers: as close as the dtype allows
    y = (torch.arange(height, device=reference.device, dtype=reference.dtype) * 2 + (1 - height)) / height
    x = (torch.arange(width, device=reference.device, dtype=reference.dtype) * 2 + (1 - width)) / width
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


@cached_grid
def corner_grid(height: int, width: int, reference: Tensor) -> Tensor:
    """Return positions whose first and last row and column lie at -1 and 1, the grid of the authors' release.

    With ``align_corners=False`` the outermost positions lie half a pixel outside of the outermost pixel centers.

    Args:
        height: height of the map.
        width: width of the map.
        reference: a tensor of the dtype and on the device of the result.

    Returns:
        (height, width, 2).
    """
    rows, columns = height - 1, width - 1
    y = (torch.arange(height, device=reference.device, dtype=reference.dtype) * 2 - rows) / max(rows, 1)
    x = (torch.arange(width, device=reference.device, dtype=reference.dtype) * 2 - columns) / max(columns, 1)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


def sample(image: Tensor, positions: Tensor, padding: Padding = "border") -> Tensor:
    """Sample ``image`` bilinearly at ``positions`` (Eq. 3).

    Uses ``gather`` on MPS and under ``dispatch.avoid_grid_sample``, and an embedding bag on CUDA in deterministic
    mode, where it has no deterministic one. Computes in the dtype of ``positions`` and returns that of ``image``.

    Args:
        image: (N, C, h, w).
        positions: (N, H, W, 2), normalized (x, y).
        padding: values outside of the image.

    Returns:
        (N, C, H, W); NaN where a position is NaN and requires a gradient.
    """
    # in training only: NaN coordinates cause out-of-bounds reads in backward passes
    where = replace_nan(positions) if positions.requires_grad else positions
    if dispatch.must_be_deterministic(image.device):  # grid_sample's backward on CUDA uses atomics and raises
        sampled = sample_by_embedding_bag(image, where, padding)
    elif dispatch.use_gather(image.device):
        sampled = sample_by_gather(image, where, padding)
    else:
        values = image.to(positions.dtype)
        sampled = F.grid_sample(values, where, mode="bilinear", padding_mode=padding, align_corners=False)
    if positions.requires_grad:
        sampled = propagate_nan(sampled, positions, where, dim=-1)
    return sampled.to(image.dtype)


def sample_by_embedding_bag(image: Tensor, positions: Tensor, padding: Padding = "border") -> Tensor:
    """Do what :func:`sample` does by an embedding bag, whose backward pass is deterministic."""
    images, channels, height, width = image.shape
    index, weights = corners(positions, height, width, padding)
    first = torch.arange(images, device=image.device)[:, None, None, None] * (height * width)
    pixels = image.permute(0, 2, 3, 1).reshape(-1, channels).to(weights.dtype)
    sampled = F.embedding_bag((index + first).view(-1, 4), pixels, per_sample_weights=weights.view(-1, 4), mode="sum")
    return sampled.view(*positions.shape[:3], channels).permute(0, 3, 1, 2).to(image.dtype)


def sample_by_gather(image: Tensor, positions: Tensor, padding: Padding = "border") -> Tensor:
    """Do what :func:`sample` does by ``gather``: slower, but with a backward pass on all devices."""
    index, weights = corners(positions, image.shape[-2], image.shape[-1], padding)
    flat = image.to(positions.dtype).flatten(2)  # (N, C, h w)
    result = flat.new_zeros(())
    for pixel, weight in zip(
        index.unbind(-1), weights.unbind(-1), strict=True
    ):  # one map of the result's size at a time
        values = flat.gather(2, pixel.flatten(1)[:, None].expand(-1, flat.shape[1], -1))
        result = result + values.unflatten(2, pixel.shape[1:]) * weight[:, None]
    return result.to(image.dtype)


class Warp(NamedTuple):
    """Samples a coarser map at the pixels of a finer one, moved by an offset: ``warp(coarse, offset)``."""

    positions: Callable[[Tensor], Tensor]
    """Maps an offset (N, 2, H, W), (x, y), to normalized positions (N, H, W, 2): defines its unit and the grid."""
    padding: Padding = "border"
    """Values outside of the coarser map."""

    def __call__(self, coarse: Tensor, offset: Tensor) -> Tensor:
        """Sample ``coarse`` (N, C, h, w) at the positions of ``offset`` (N, 2, H, W); the result is (N, C, H, W)."""
        return sample(coarse, self.positions(offset), self.padding)


def at_least_float32(m: Tensor) -> Tensor:
    """Return a tensor in float32, or unchanged if it is in float64."""
    return m.to(torch.promote_types(m.dtype, torch.float32))


def move_pixel_grid(offset: Tensor) -> Tensor:
    """Return the pixel centers moved by an offset (Eq. 2).

    A position moves by ``2 offset / (H + W)`` normalized units, H and W of the finer map: by ``offset W / (H + W)`` of
    its pixels in x and ``offset H / (H + W)`` in y, which is half a pixel per unit where H = W.

    Args:
        offset: (N, 2, H, W), (x, y).

    Returns:
        Normalized positions (N, H, W, 2).
    """
    delta = at_least_float32(offset)
    height, width = delta.shape[-2:]
    return pixel_grid(height, width, delta) + (delta * 2 / (height + width)).permute(0, 2, 3, 1)


def move_corner_grid(offset: Tensor) -> Tensor:
    """Return the grid of the authors' release moved by an offset, by half a pixel of the finer map per unit.

    A position moves by ``offset / (W, H)`` normalized units.

    Args:
        offset: (N, 2, H, W), (x, y).

    Returns:
        Normalized positions (N, H, W, 2).
    """
    delta = at_least_float32(offset)
    height, width = delta.shape[-2:]
    shift = torch.stack([delta[:, 0] / width, delta[:, 1] / height], dim=-1)
    return corner_grid(height, width, delta) + shift


warp = Warp(move_pixel_grid, "border")
"""Samples as in Eq. 2; the border is repeated, so that a zero offset is bilinear upsampling exactly."""

warp_released = Warp(move_corner_grid, "zeros")
"""Samples as the authors' release does, with zeros outside of the map.

Its grid has its corners at -1 and 1: with a zero offset and a map of ones the result is 1/4 in the corners, 1/2 along
the edges and 1 inside.
"""
