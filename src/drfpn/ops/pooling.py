"""Adaptive pooling, written with products and gathers that hold for any size in a graph."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops.dispatch import must_repeat


def _starts_and_ends(size: int, bins: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first pixel of each bin and the one behind its last, (bins, 1): floor and ceil of i size / bins."""
    bin_ = torch.arange(bins, device=like.device)[:, None]
    return bin_ * size // bins, ((bin_ + 1) * size + bins - 1) // bins


def _bin_weights(size: int, bins: int, like: Tensor) -> Tensor:
    """Return (bins, size): row i averages the pixels of bin i."""
    pixel = torch.arange(size, device=like.device)
    start, end = _starts_and_ends(size, bins, like)
    weights = ((pixel >= start) & (pixel < end)).to(like.dtype)
    return weights / weights.sum(1, keepdim=True)


def _library_pools(device: torch.device) -> bool:
    return not (torch.compiler.is_compiling() or must_repeat(device) or device.type == "mps")


def adaptive_average_pool(x: Tensor, bins: int | Sequence[int]) -> Tensor:
    """Average ``x`` (N, C, H, W) over cells, as ``F.adaptive_avg_pool2d`` does.

    It is written as products where the library's operator cannot be used: in a graph, which has no form of it for sizes
    known only at run time; on CUDA under ``torch.use_deterministic_algorithms``, where its backward refuses to run; and
    on MPS, which pools only into cells of equal size. Maps smaller than ``bins`` are read more than once, as there.

    Args:
        x: (N, C, H, W).
        bins: cells a side, or how many in height and in width.

    Returns:
        (N, C, bins, bins).
    """
    down, across = (bins, bins) if isinstance(bins, int | torch.SymInt) else bins
    if _library_pools(x.device):
        return F.adaptive_avg_pool2d(x, (down, across))
    height, width = x.shape[-2:]
    rows = _bin_weights(height, down, x) @ x  # (N, C, bins, W)
    return rows @ _bin_weights(width, across, x).T


def adaptive_max_pool(x: Tensor, size: Sequence[int]) -> Tensor:
    """Take the largest value of ``x`` (N, C, H, W) in each cell of a grid, as ``F.adaptive_max_pool2d`` does.

    Written with gathers for the same reasons as :func:`adaptive_average_pool`: rows first, then columns.

    Args:
        x: (N, C, H, W).
        size: height and width of the grid.

    Returns:
        (N, C, *size).
    """
    return _largest(_largest(x, size[0], dim=2), size[1], dim=3)


def _largest(x: Tensor, bins: int, dim: int) -> Tensor:
    pixels = x.shape[dim]
    start, end = _starts_and_ends(pixels, bins, x)
    longest = (pixels + bins - 1) // bins + 1  # a bin may begin and end inside of a pixel
    members = torch.minimum(start + torch.arange(longest, device=x.device), end - 1)  # the last pixel again and again
    return x.index_select(dim, members.flatten()).unflatten(dim, (bins, longest)).max(dim + 1).values
