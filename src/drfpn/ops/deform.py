"""Deformable convolution (Dai et al., ICCV 2017; Zhu et al., CVPR 2019), with a way of its own on CPUs."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, deform_conv2d

from drfpn.ops.sampling import pixel_corners
from drfpn.ops.tracing import may_compose


def deform_conv(conv: nn.Conv2d | DeformConv2d, m: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
    """Convolve ``m`` at points that are moved, as ``torchvision.ops.deform_conv2d`` does.

    On a CPU the points of all pixels are read by an embedding bag, where they are the same for all channels: with the
    channels of a pixel side by side in memory that takes a fraction of the time.

    Args:
        conv: its weight, bias, stride, padding (in pixels) and dilation.
        m: (N, C, H, W).
        offset: (N, 2 K G, h, w), (y, x) of each of the K points of the kernel, finite; G groups of channels.
        mask: (N, K G, h, w): how much each point counts.
    """
    assert not isinstance(conv.padding, str)
    points = conv.weight.shape[2:].numel()
    plain = conv.groups == 1 and conv.dilation == (1, 1) and offset.shape[1] == 2 * points
    if not plain or not may_compose(m.device):
        return deform_conv2d(m, offset, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, mask)
    images, channels, height, width = m.shape
    rows, columns = offset.shape[-2:]
    moved = offset.unflatten(1, (*conv.weight.shape[2:], 2)).to(torch.promote_types(m.dtype, torch.float32))
    y = _centres(rows, conv.weight.shape[2], conv.stride[0], conv.padding[0], moved)[:, None, :, None]
    x = _centres(columns, conv.weight.shape[3], conv.stride[1], conv.padding[1], moved)[:, None]
    index, share = pixel_corners(moved[:, :, :, 1] + x, moved[:, :, :, 0] + y, height, width)  # (N, kh, kw, h, w, 4)
    if mask is not None:
        share = share * mask.unflatten(1, conv.weight.shape[2:])[..., None]
    index = index + torch.arange(images)[:, None, None, None, None, None] * (height * width)
    pixels = m.permute(0, 2, 3, 1).reshape(-1, channels).to(share.dtype)
    order = (0, 3, 4, 1, 2, 5)
    read = F.embedding_bag(
        index.permute(order).reshape(-1, 4), pixels, per_sample_weights=share.permute(order).reshape(-1, 4), mode="sum"
    )
    out = F.linear(read.view(images, rows, columns, -1), conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)
    return out.permute(0, 3, 1, 2).to(m.dtype)


def _centres(count: int, points: int, stride: int, padding: int, like: Tensor) -> Tensor:
    """Return where the points of a kernel lie along one axis before they are moved: (points, count)."""
    steps = torch.arange(count, dtype=like.dtype) * stride - padding
    return torch.arange(points, dtype=like.dtype)[:, None] + steps
