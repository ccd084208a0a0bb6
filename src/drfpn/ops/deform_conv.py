"""Deformable convolution (Dai et al., ICCV 2017; Zhu et al., CVPR 2019), with a way of its own on CPUs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, deform_conv2d

from drfpn.ops.dispatch import may_compose, must_repeat
from drfpn.ops.grid_sample import pixel_corners


def deform_conv(conv: nn.Conv2d | DeformConv2d, m: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
    """Convolve ``m`` at points that are moved, as ``torchvision.ops.deform_conv2d`` does.

    On a CPU the points of all pixels are read by an embedding bag, where they are the same for all channels: with the
    channels of a pixel side by side in memory that takes a fraction of the time. Groups of channels are read by
    ``grid_sample``, as images of a batch. On CUDA, where results must repeat, an embedding bag reads both.

    Args:
        conv: its weight, bias, stride, padding (in pixels) and dilation.
        m: (N, C, H, W).
        offset: (N, 2 K G, h, w), (y, x) of each of the K points of the kernel, finite; G groups of channels.
        mask: (N, K G, h, w): how much each point counts.
    """
    assert not isinstance(conv.padding, str)
    repeat = must_repeat(m.device)
    if conv.groups > 1 or conv.dilation != (1, 1) or not (may_compose(m.device) or repeat):
        return deform_conv2d(m, offset, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, mask)
    kernel = conv.weight.shape[2:]
    groups = offset.shape[1] // (2 * kernel.numel())
    moved = offset.unflatten(1, (groups, *kernel, 2)).to(torch.promote_types(m.dtype, torch.float32))
    rows, columns = offset.shape[-2:]
    y = _centres(rows, kernel[0], conv.stride[0], conv.padding[0], moved)[:, None, :, None] + moved[..., 0, :, :]
    x = _centres(columns, kernel[1], conv.stride[1], conv.padding[1], moved)[:, None] + moved[..., 1, :, :]
    if mask is not None:
        mask = mask.unflatten(1, (groups, *kernel))  # as x and y: (N, G, kh, kw, h, w)
    convolve = _by_bag if groups == 1 or repeat else _by_grid
    return convolve(m, x, y, mask, conv.weight, conv.bias).to(m.dtype)


def _by_bag(m: Tensor, x: Tensor, y: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve at points (N, G, kh, kw, h, w) in pixels of ``m``, G groups of channels."""
    height, width = m.shape[-2:]
    images, groups, *_, rows, columns = x.shape
    index, share = pixel_corners(x, y, height, width)  # (N, G, kh, kw, h, w, 4)
    if mask is not None:
        share = share * mask[..., None]
    first = torch.arange(images * groups, device=m.device).view(images, groups, *[1] * 5) * (height * width)
    grouped = m.unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 2)  # (N, G, H, W, C / G)
    pixels = grouped.reshape(-1, grouped.shape[-1]).to(share.dtype)
    order = (0, 4, 5, 1, 2, 3, 6)  # (N, h, w, G, kh, kw, 4)
    read = F.embedding_bag(
        (index + first).permute(order).reshape(-1, 4),
        pixels,
        per_sample_weights=share.permute(order).reshape(-1, 4),
        mode="sum",
    )
    of_points = weight.unflatten(1, (groups, -1)).permute(0, 1, 3, 4, 2).flatten(1)  # as read: G, kh, kw, C / G
    return F.linear(read.view(images, rows, columns, -1), of_points, bias).permute(0, 3, 1, 2)


def _by_grid(m: Tensor, x: Tensor, y: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve at points (N, G, kh, kw, h, w), G groups of channels."""
    images, groups, *kernel, rows, columns = x.shape
    height, width = m.shape[-2:]
    # two pixels outside all is zero, its gradient too
    grid = torch.stack([x.clamp(-2, width + 1) * 2 / width, y.clamp(-2, height + 1) * 2 / height], dim=-1)
    grid = grid + grid.new_tensor([1 / width - 1, 1 / height - 1])
    maps = m.to(x.dtype).unflatten(1, (groups, -1)).flatten(0, 1).contiguous()
    read = F.grid_sample(maps, grid.view(images * groups, -1, columns, 2), align_corners=False)
    read = read.view(images, groups, -1, *kernel, rows, columns)  # (N, G, C / G, kh, kw, h, w)
    if mask is not None:
        read = read * mask[:, :, None]
    out = weight.flatten(1) @ read.view(images, -1, rows * columns)
    out = out.unflatten(2, (rows, columns))
    return out if bias is None else out + bias[:, None, None]


def _centres(count: int, points: int, stride: int, padding: int, like: Tensor) -> Tensor:
    """Return where the points of a kernel lie along one axis before they are moved: (points, count)."""
    steps = torch.arange(count, dtype=like.dtype, device=like.device) * stride - padding
    return torch.arange(points, dtype=like.dtype, device=like.device)[:, None] + steps
