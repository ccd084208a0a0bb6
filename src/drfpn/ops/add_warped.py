"""Fusion of two levels by SRB: the sum of Eq. 4, without its convolution."""

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops import dispatch
from drfpn.ops.cpu.add_warped import add_sampled
from drfpn.ops.grid_sample import Warp


def add_warped(fine: Tensor, coarse: Tensor, offset: Tensor, weight: Tensor, warp: Warp) -> Tensor:
    """Return ``fine + weight * warp(coarse, offset) + up(coarse)``; ``up`` is nearest-neighbor upsampling.

    Args:
        fine: (N, C, H, W).
        coarse: (N, C, h, w).
        offset: (N, 2, H, W), in the unit of ``warp``.
        weight: (N, 1, H, W), omega.
        warp: samples ``coarse`` at the pixels of ``fine`` moved by ``offset``.

    Returns:
        (N, C, H, W).
    """
    if dispatch.use_embedding_bag(fine.device):
        return add_sampled(fine, coarse, warp.positions(offset), weight, warp.padding)
    merged = torch.addcmul(fine, weight, warp(coarse, offset))
    return merged + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")
