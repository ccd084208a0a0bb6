"""Bilinear upsampling in a form that holds for any size in a graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def upsample_corners(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``x`` (N, C, h, w) bilinearly, corners on corners, as ``F.interpolate(..., align_corners=True)`` does.

    Written with gathers because the library's kernel counts sides of one pixel otherwise, which binds a graph.

    Args:
        x: (N, C, h, w).
        size: height and width of the result.

    Returns:
        (N, C, *size).
    """
    return _between(_between(x, size[0], dim=2), size[1], dim=3)


def _between(x: Tensor, size: int, dim: int) -> Tensor:
    last = x.shape[dim] - 1
    kind = torch.promote_types(x.dtype, torch.float32)
    steps: Any = torch.sym_max(size - 1, 1)
    at = torch.arange(size, device=x.device, dtype=kind) * last / steps
    before = at.long()
    behind = (before + 1).clamp(max=last)
    share = (at - before).to(x.dtype).unflatten(0, (-1, *(1 for _ in range(3 - dim))))
    return x.index_select(dim, before).lerp(x.index_select(dim, behind), share)
