"""Adaptive average pooling as two matrix products."""

import torch
from torch import Tensor


def _bin_weights(size: int, bins: int, like: Tensor) -> Tensor:
    """Return (bins, size): row i averages the pixels floor(i size / bins) up to ceil((i + 1) size / bins)."""
    pixel = torch.arange(size, device=like.device)
    bin_ = torch.arange(bins, device=like.device)[:, None]
    member = (pixel >= bin_ * size // bins) & (pixel < ((bin_ + 1) * size + bins - 1) // bins)
    weights = member.to(like.dtype)
    return weights / weights.sum(1, keepdim=True)


def adaptive_average_pool(x: Tensor, bins: int) -> Tensor:
    """Average ``x`` (N, C, H, W) over ``bins`` x ``bins`` cells, as ``F.adaptive_avg_pool2d`` does.

    Written as products because the library's kernel has no deterministic backward on CUDA and no ONNX form for
    sizes that are known only at run time. Maps smaller than ``bins`` are read more than once, as there.

    Returns:
        (N, C, bins, bins).
    """
    height, width = x.shape[-2:]
    rows = _bin_weights(height, bins, x) @ x  # (N, C, bins, W)
    return rows @ _bin_weights(width, bins, x).T
