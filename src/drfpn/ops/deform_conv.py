"""Deformable convolution (Dai et al., ICCV 2017; Zhu et al., CVPR 2019)."""

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, deform_conv2d

from drfpn.ops import dispatch
from drfpn.ops.cpu.deform_conv import deform_conv_by_embedding_bag, deform_conv_by_grid_sample


def deform_conv(conv: nn.Conv2d | DeformConv2d, m: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
    """Convolve ``m`` at sampling points moved by ``offset``, as ``torchvision.ops.deform_conv2d`` does.

    On a CPU one group of channels is read by an embedding bag, which takes a fraction of the time of torchvision's
    operator where the channels of a pixel are contiguous in memory; several groups are read by ``grid_sample``. On CUDA
    in deterministic mode an embedding bag reads both.

    Args:
        conv: its weight, bias, stride, padding (in pixels) and dilation are used.
        m: (N, C, H, W).
        offset: (N, 2 K G, h, w), (y, x) in pixels of each of the K points of the kernel, finite; G groups of channels.
        mask: (N, K G, h, w), modulation weight of each point; ``None`` for 1.

    Returns:
        (N, conv.out_channels, h, w).
    """
    assert not isinstance(conv.padding, str)
    deterministic = dispatch.must_be_deterministic(m.device)
    fast = dispatch.may_fuse_layers(m.device) or deterministic
    if conv.groups > 1 or conv.dilation != (1, 1) or not fast:
        return deform_conv2d(m, offset, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, mask)
    kernel = conv.weight.shape[2:]
    groups = offset.shape[1] // (2 * kernel.numel())
    offset = offset.unflatten(1, (groups, *kernel, 2)).to(torch.promote_types(m.dtype, torch.float32))
    rows, columns = offset.shape[-2:]
    y = _centers(rows, kernel[0], conv.stride[0], conv.padding[0], offset)[:, None, :, None] + offset[..., 0, :, :]
    x = _centers(columns, kernel[1], conv.stride[1], conv.padding[1], offset)[:, None] + offset[..., 1, :, :]
    if mask is not None:
        mask = mask.unflatten(1, (groups, *kernel))  # as x and y: (N, G, kh, kw, h, w)
    convolve = deform_conv_by_embedding_bag if groups == 1 or deterministic else deform_conv_by_grid_sample
    return convolve(m, x, y, mask, conv.weight, conv.bias).to(m.dtype)


def _centers(count: int, points: int, stride: int, padding: int, reference: Tensor) -> Tensor:
    """Return the unmoved coordinates of a kernel's points along one axis, (points, count), as ``reference`` in dtype.

    Args:
        count: output pixels.
        points: points of the kernel.
        stride: of the convolution.
        padding: of the convolution.
        reference: a tensor of the dtype and on the device of the result.
    """
    start = torch.arange(count, dtype=reference.dtype, device=reference.device) * stride - padding
    return torch.arange(points, dtype=reference.dtype, device=reference.device)[:, None] + start
