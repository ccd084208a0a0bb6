"""The sum that ends SRB (Eq. 4 without its convolution)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops.dispatch import reads_rows
from drfpn.ops.grid_sample import Warp, corners


def add_warped(fine: Tensor, coarse: Tensor, offset: Tensor, weight: Tensor, warp: Warp) -> Tensor:
    """Return ``fine + weight * warp(coarse, offset) + up(coarse)``, ``up`` by nearest neighbours.

    Args:
        fine: (N, C, H, W).
        coarse: (N, C, h, w).
        offset: (N, 2, H, W).
        weight: (N, 1, H, W).
        warp: how ``coarse`` is read.
    """
    if reads_rows(fine.device):
        return _gather_rows(fine, coarse, warp.positions(offset), weight, warp)
    merged = torch.addcmul(fine, weight, warp(coarse, offset))
    return merged + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


def _gather_rows(fine: Tensor, coarse: Tensor, positions: Tensor, weight: Tensor, warp: Warp) -> Tensor:
    """Return ``fine + weight * sample(coarse, positions) + up(coarse)``, writing nothing but the result.

    Each of its pixels takes a weighted sum of five pixels of ``coarse``: the four around its position and the nearest.
    Where the channels of a pixel lie side by side in memory, that is what an embedding bag is made for; no map of the
    finer size is kept for the backward pass.
    """
    images, channels, height, width = coarse.shape
    rows, columns = positions.shape[1:3]
    index, share = corners(positions, height, width, warp.padding)  # (N, H, W, 4)
    share = share * weight.to(share.dtype)[:, 0, ..., None]
    y = torch.arange(rows, device=coarse.device) * height // rows
    x = torch.arange(columns, device=coarse.device) * width // columns
    nearest = (y[:, None] * width + x).expand(images, rows, columns)
    index = torch.cat([index, nearest[..., None]], dim=-1)
    share = torch.cat([share, torch.ones_like(share[..., :1])], dim=-1)
    first = torch.arange(images, device=coarse.device) * (height * width)
    pixels = coarse.permute(0, 2, 3, 1).reshape(-1, channels).to(share.dtype)
    summed = F.embedding_bag(
        (index + first[:, None, None, None]).view(-1, 5), pixels, per_sample_weights=share.view(-1, 5), mode="sum"
    )
    summed += fine.permute(0, 2, 3, 1).reshape(-1, channels)
    result = summed.view(images, rows, columns, channels).permute(0, 3, 1, 2).to(coarse.dtype)
    # in the layout of the finer map: the convolutions behind it then give the bits that they give behind FPN's sum
    return result if fine.is_contiguous(memory_format=torch.channels_last) else result.contiguous()
