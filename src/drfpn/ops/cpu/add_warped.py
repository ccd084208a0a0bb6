"""Fusion of two levels by SRB as one embedding bag."""

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops.corners import Padding, corners


def add_sampled(fine: Tensor, coarse: Tensor, positions: Tensor, weight: Tensor, padding: Padding) -> Tensor:
    """Return ``fine + weight * sample(coarse, positions) + up(coarse)`` without intermediate maps.

    Each pixel of the result takes a weighted sum of five pixels of ``coarse``: the four around its position and the
    nearest. Where the channels of a pixel are contiguous in memory, an embedding bag computes such sums fastest, and no
    map of the finer size is saved for the backward pass.

    Args:
        fine: (N, C, H, W).
        coarse: (N, C, h, w).
        positions: (N, H, W, 2), normalized (x, y).
        weight: (N, 1, H, W).
        padding: of ``coarse``.

    Returns:
        (N, C, H, W), in the memory format of ``fine``.
    """
    images, channels, height, width = coarse.shape
    rows, columns = positions.shape[1:3]
    index, factor = corners(positions, height, width, padding)  # (N, H, W, 4)
    factor = factor * weight.to(factor.dtype)[:, 0, ..., None]
    y = torch.arange(rows, device=coarse.device) * height // rows
    x = torch.arange(columns, device=coarse.device) * width // columns
    nearest = (y[:, None] * width + x).expand(images, rows, columns)
    index = torch.cat([index, nearest[..., None]], dim=-1)
    factor = torch.cat([factor, torch.ones_like(factor[..., :1])], dim=-1)
    first = torch.arange(images, device=coarse.device) * (height * width)
    pixels = coarse.permute(0, 2, 3, 1).reshape(-1, channels).to(factor.dtype)
    summed = F.embedding_bag(
        (index + first[:, None, None, None]).view(-1, 5), pixels, per_sample_weights=factor.view(-1, 5), mode="sum"
    )
    summed += fine.permute(0, 2, 3, 1).reshape(-1, channels)
    result = summed.view(images, rows, columns, channels).permute(0, 3, 1, 2).to(coarse.dtype)
    # with the memory format of the finer map, the next convolution rounds as it does behind FPN's sum
    return result if fine.is_contiguous(memory_format=torch.channels_last) else result.contiguous()
