"""Adaptive pooling over grids of cells, also in exported graphs of dynamic sizes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops import dispatch


def adaptive_average_pool(x: Tensor, bins: int | Sequence[int]) -> Tensor:
    """Average a map over a grid of cells, as ``F.adaptive_avg_pool2d`` does.

    Written as matrix products where PyTorch's operator cannot be used: in a traced graph, since ONNX has no such
    operator for dynamic sizes; on CUDA in deterministic mode, where its backward pass raises; and on MPS, where all
    cells must have the same size.

    Args:
        x: (N, C, H, W).
        bins: cells along each side, or along height and width. In maps smaller than that, cells share pixels.

    Returns:
        (N, C, rows, columns) of the grid.
    """
    rows, columns = (bins, bins) if isinstance(bins, int | torch.SymInt) else bins
    if _use_library(x.device):
        return F.adaptive_avg_pool2d(x, (rows, columns))
    height, width = x.shape[-2:]
    return _bin_weights(height, rows, x) @ x @ _bin_weights(width, columns, x).T


def adaptive_max_pool(x: Tensor, size: Sequence[int]) -> Tensor:
    """Take the maximum of a map in each cell of a grid, as ``F.adaptive_max_pool2d`` does.

    Written as gathers, along height and then along width: in a traced graph PyTorch's operator is not available for
    dynamic sizes, and on CUDA its backward pass is not deterministic.

    Args:
        x: (N, C, H, W).
        size: rows and columns of the grid.

    Returns:
        (N, C, *size).
    """
    return _max_along(_max_along(x, size[0], dim=2), size[1], dim=3)


def _use_library(device: torch.device) -> bool:
    return not (torch.compiler.is_compiling() or dispatch.must_be_deterministic(device) or device.type == "mps")


def _starts_and_ends(size: int, bins: int, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first pixel of each bin, floor(i size / bins), and the end of its range, ceil((i + 1) size / bins).

    Args:
        size: pixels along one axis.
        bins: bins along it.
        reference: a tensor on the device of the results.

    Returns:
        (bins, 1) each.
    """
    bin_ = torch.arange(bins, device=reference.device)[:, None]
    return bin_ * size // bins, ((bin_ + 1) * size + bins - 1) // bins


def _bin_weights(size: int, bins: int, reference: Tensor) -> Tensor:
    """Return the matrix (bins, size) that averages the pixels of each bin, in the dtype of ``reference``."""
    pixel = torch.arange(size, device=reference.device)
    start, end = _starts_and_ends(size, bins, reference)
    weights = ((pixel >= start) & (pixel < end)).to(reference.dtype)
    return weights / weights.sum(1, keepdim=True)


def _max_along(x: Tensor, bins: int, dim: int) -> Tensor:
    """Take the maximum of each bin along ``dim``."""
    pixels = x.shape[dim]
    start, end = _starts_and_ends(pixels, bins, x)
    longest = (pixels + bins - 1) // bins + 1  # a bin may start and end inside of a pixel
    members = torch.minimum(start + torch.arange(longest, device=x.device), end - 1)  # the last pixel repeats
    return x.index_select(dim, members.flatten()).unflatten(dim, (bins, longest)).max(dim + 1).values
