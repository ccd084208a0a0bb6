"""Learned upsamplers by two: CARAFE and DySample, and the operations on maps that FreqFusion shares with them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drfpn.necks.layers.groups import check_groups
from drfpn.ops import at_least_float32, pixel_grid, sample


def filter_per_pixel(padded: Tensor, kernels: Tensor) -> Tensor:
    """Filter a padded map with kernels that differ from pixel to pixel and are the same for all channels.

    Shifted slices of the map are weighted and added one after the other, so that the K x K neighbors of all pixels
    are never held at once.

    Args:
        padded: (N, C, h + K - 1, w + K - 1).
        kernels: (N, K * K, S, h, w), K odd, weights row by row; S kernels for each pixel.

    Returns:
        (N, C, S, h, w).
    """
    size = math.isqrt(kernels.shape[1])
    height, width = kernels.shape[-2:]
    padded = padded[:, :, None]
    weights = kernels[:, None].unbind(dim=2)  # K * K of (N, 1, S, h, w)
    total = padded.new_zeros(())
    for y in range(size):
        rows = padded[..., y : y + height, :]
        for x in range(size):
            total = torch.addcmul(total, rows[..., x : x + width], weights[y * size + x])
    return total


def reassemble(m: Tensor, kernels: Tensor) -> Tensor:
    """Upsample a map by two: each output pixel is a weighted sum of the neighbors of its source pixel (CARAFE).

    Args:
        m: (N, C, h, w); padded with zeros.
        kernels: (N, K * K, 2 h, 2 w); the arithmetic is done in their dtype.

    Returns:
        (N, C, 2 h, 2 w), in the dtype of ``m``.
    """
    padding = math.isqrt(kernels.shape[1]) // 2
    kernels = F.pixel_unshuffle(kernels, 2).unflatten(1, (-1, 4))  # four output pixels of each: (N, K * K, 4, h, w)
    out = filter_per_pixel(F.pad(m.to(kernels.dtype), (padding,) * 4), kernels)
    return F.pixel_shuffle(out.flatten(1, 2), 2).to(m.dtype)


def sample_groups(m: Tensor, offset: Tensor) -> Tensor:
    """Sample each group of channels bilinearly at its own positions; zero offsets give bilinear resizing.

    Args:
        m: (N, C, h, w), C a multiple of G; the border is repeated.
        offset: (N, 2 G, H, W), (x, y) of each of G groups, in pixels of ``m``; the arithmetic is done in float32.

    Returns:
        (N, C, H, W).
    """
    groups = offset.shape[1] // 2
    height, width = m.shape[-2:]
    offset = at_least_float32(offset).unflatten(1, (groups, 2)).flatten(0, 1)  # (N G, 2, H, W)
    shift = torch.stack([offset[:, 0] / width, offset[:, 1] / height], dim=-1) * 2
    rows, columns = offset.shape[-2:]
    grid = pixel_grid(rows, columns, offset) + shift
    sampled = sample(m.unflatten(1, (groups, -1)).flatten(0, 1), grid)
    return sampled.unflatten(0, (-1, groups)).flatten(1, 2)


class CARAFEUpsampler(nn.Module):
    """CARAFE: upsampling by two with 5x5 kernels predicted from the map (Wang et al., ICCV 2019, arXiv:1905.02188).

    A 1x1 convolution compresses the map, a 3x3 convolution predicts 25 weights for each of the four output pixels of
    a pixel, and a softmax normalizes them. There is no norm and no activation.

    The last convolution is initialized with N(0, 0.001), so that all kernels are nearly uniform at the start.

    Args:
        channels: number of input and output channels.
        compressed: channels that the kernels are predicted from.
        kernel_size: side of a kernel, odd.
    """

    def __init__(self, channels: int, compressed: int = 64, kernel_size: int = 5) -> None:
        super().__init__()
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, 4 * kernel_size**2, 3, padding=1)
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.normal_(self.encode.weight, std=0.001)
        for conv in (self.compress, self.encode):
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # a bias is typed as optional

    def kernels(self, m: Tensor) -> Tensor:
        """Predict the kernels (N, K * K, 2 h, 2 w) for a map (N, C, h, w)."""
        return at_least_float32(F.pixel_shuffle(self.encode(self.compress(m)), 2)).softmax(dim=1)

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C, 2 h, 2 w)."""
        return reassemble(m, self.kernels(m))


class StaticScope(nn.Module):
    """Static scope factor of DySample: a quarter of a pixel for each unit of the offset."""

    def forward(self, m: Tensor) -> float:
        """Return 1 / 4."""
        return 0.25


class DynamicScope(nn.Module):
    """Dynamic scope factor of DySample+: predicted from the map, between 0 and 1/2, and 1/4 at the start.

    Args:
        channels: channels of the map.
        offsets: number of offset components of each pixel.
    """

    def __init__(self, channels: int, offsets: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, offsets, 1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, offsets, h, w)."""
        return self.conv(m).sigmoid() / 2


class DySampleUpsampler(nn.Module):
    r"""DySample, style "lp": upsampling by two at predicted positions (Liu et al., ICCV 2023, arXiv:2308.15085).

    .. math::
        \mathrm{sample}(m, g + s \odot \mathrm{conv}(m))

    Convention: g are the positions of bilinear upsampling (``align_corners=False``, the border is repeated); offsets
    are in pixels of the map; each of ``groups`` groups of channels is sampled at its own positions.

    The convolution is initialized with N(0, 0.001), so that the start is nearly bilinear upsampling.

    Args:
        channels: number of input and output channels, a multiple of ``groups``.
        groups: groups of channels, each with its own offsets.
        dynamic_scope: whether the scope factor s is predicted from the map (DySample+) or 1 / 4.

    Raises:
        UsageError: ``channels`` is not a multiple of ``groups``.
    """

    def __init__(self, channels: int, groups: int = 4, *, dynamic_scope: bool = False) -> None:
        super().__init__()
        check_groups(channels, groups, "DySample")
        offsets = 2 * groups * 4  # (x, y) of each group for the four output pixels of a pixel
        self.offset = nn.Conv2d(channels, offsets, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]  # a bias is typed as optional
        self.scope: nn.Module = DynamicScope(channels, offsets) if dynamic_scope else StaticScope()

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C, 2 h, 2 w)."""
        return sample_groups(m, F.pixel_shuffle(self.offset(m) * self.scope(m), 2))
