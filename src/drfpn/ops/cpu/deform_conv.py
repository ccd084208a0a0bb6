"""Deformable convolution as an embedding bag or ``grid_sample``, followed by a product."""

import torch
import torch.nn.functional as F
from torch import Tensor

from drfpn.ops.corners import pixel_corners


def deform_conv_by_embedding_bag(
    m: Tensor, x: Tensor, y: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Convolve ``m`` at given points, read by an embedding bag.

    Args:
        m: (N, C, H, W).
        x: (N, G, kh, kw, h, w), in pixels of ``m``, for each of G groups of channels.
        y: as ``x``.
        mask: as ``x``, modulation weights; ``None`` for 1.
        weight: (O, C, kh, kw).
        bias: (O,).

    Returns:
        (N, O, h, w).
    """
    height, width = m.shape[-2:]
    images, groups, *_, rows, columns = x.shape
    index, factor = pixel_corners(x, y, height, width)  # (N, G, kh, kw, h, w, 4)
    if mask is not None:
        factor = factor * mask[..., None]
    first = torch.arange(images * groups, device=m.device).view(images, groups, *[1] * 5) * (height * width)
    grouped = m.unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 2)  # (N, G, H, W, C / G)
    pixels = grouped.reshape(-1, grouped.shape[-1]).to(factor.dtype)
    order = (0, 4, 5, 1, 2, 3, 6)  # (N, h, w, G, kh, kw, 4)
    sampled = F.embedding_bag(
        (index + first).permute(order).reshape(-1, 4),
        pixels,
        per_sample_weights=factor.permute(order).reshape(-1, 4),
        mode="sum",
    )
    matrix = weight.unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 2).flatten(1)  # as sampled: G, kh, kw, C / G
    return F.linear(sampled.view(images, rows, columns, -1), matrix, bias).permute(0, 3, 1, 2)


def deform_conv_by_grid_sample(
    m: Tensor, x: Tensor, y: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Convolve ``m`` at given points, read by ``grid_sample`` with the groups of channels as images of a batch.

    Args: as :func:`deform_conv_by_embedding_bag`.
    """
    images, groups, *kernel, rows, columns = x.shape
    height, width = m.shape[-2:]
    # two pixels outside of the map values and gradients are zero
    grid = torch.stack([x.clamp(-2, width + 1) * 2 / width, y.clamp(-2, height + 1) * 2 / height], dim=-1)
    grid = grid + grid.new_tensor([1 / width - 1, 1 / height - 1])
    maps = m.to(x.dtype).unflatten(1, (groups, -1)).flatten(0, 1).contiguous()
    sampled = F.grid_sample(maps, grid.view(images * groups, -1, columns, 2), align_corners=False)
    sampled = sampled.view(images, groups, -1, *kernel, rows, columns)  # (N, G, C / G, kh, kw, h, w)
    if mask is not None:
        sampled = sampled * mask[:, :, None]
    out = weight.flatten(1) @ sampled.view(images, -1, rows * columns)
    out = out.unflatten(2, (rows, columns))
    return out if bias is None else out + bias[:, None, None]
