"""FreqFusion: frequency-aware fusion of neighboring levels (Chen et al., IEEE TPAMI 2024, arXiv:2408.12879)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.convs import init_convs
from drfpn.necks.layers.groups import check_groups
from drfpn.necks.layers.upsamplers import filter_per_pixel, reassemble, sample_groups
from drfpn.ops import at_least_float32, pad_or_crop

NEIGHBORS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
DILATION = 2
"""Distance in pixels of the neighbors that a pixel is compared with."""


def similarity(m: Tensor) -> Tensor:
    """Compute the cosine similarity of each pixel with its eight neighbors at a distance of ``DILATION``.

    Args:
        m: (N, C, H, W).

    Returns:
        (N, 8, H, W), 0 where the neighbor is outside of the map.
    """
    unit = F.normalize(at_least_float32(m), dim=1, eps=1e-2)  # a pixel of a normalized map has a norm near sqrt(C)
    height, width = m.shape[-2:]
    padded = F.pad(unit, (DILATION,) * 4)
    cosines = []
    for dy, dx in NEIGHBORS:
        y, x = DILATION * (1 + dy), DILATION * (1 + dx)
        cosines.append((unit * padded[..., y : y + height, x : x + width]).sum(dim=1))
    return torch.stack(cosines, dim=1).to(m.dtype)


def low_pass(m: Tensor, kernels: Tensor) -> Tensor:
    """Filter a map with low-pass kernels that differ from pixel to pixel.

    Args:
        m: (N, C, H, W); the border is repeated.
        kernels: (N, K * K, H, W).

    Returns:
        (N, C, H, W).
    """
    padding = math.isqrt(kernels.shape[1]) // 2
    padded = F.pad(m.to(kernels.dtype), (padding,) * 4, mode="replicate")
    return filter_per_pixel(padded, kernels[:, :, None])[:, :, 0].to(m.dtype)


def sharpen(m: Tensor, kernels: Tensor) -> Tensor:
    """Add to ``m`` (N, C, H, W) its high frequencies, ``m - low_pass(m, kernels)``."""
    return m + (m - low_pass(m, kernels))


def upsample(m: Tensor, kernels: Tensor) -> Tensor:
    """Upsample a map by CARAFE's reassembly to the size of its kernels.

    Args:
        m: (N, C, h, w).
        kernels: (N, K * K, H, W), one for each output pixel; H and W are 2 h and 2 w, or one pixel more or less.

    Returns:
        (N, C, H, W).
    """
    height, width = m.shape[-2:]
    return pad_or_crop(reassemble(m, pad_or_crop(kernels, (2 * height, 2 * width))), kernels.shape[-2:])


class KernelPredictor(nn.Module):
    """Predicts a low-pass kernel for each pixel: 3x3 convolution, softmax, Hamming window, normalization to sum one.

    Args:
        channels: channels of the map that the kernels are predicted from.
        size: side of a kernel, odd.
    """

    window: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.encode = nn.Conv2d(channels, size**2, 3, padding=1)
        nn.init.normal_(self.encode.weight, std=0.001)
        nn.init.zeros_(self.encode.bias)  # type: ignore[arg-type]  # a bias is typed as optional
        window = torch.hamming_window(size, periodic=False)
        self.register_buffer("window", torch.outer(window, window).reshape(-1, 1, 1), persistent=False)

    def normalize(self, logits: Tensor) -> Tensor:
        """Turn logits (N, K * K, H, W) into kernels of the same shape."""
        weights = at_least_float32(logits).softmax(dim=1) * self.window
        return weights / weights.sum(dim=1, keepdim=True)


class GuidedResampling(nn.Module):
    """Samples a map at predicted positions near its own pixels (FreqFusion's offset generator).

    Each of two compressed maps is normalized (GroupNorm) and concatenated with its :func:`similarity`. 3x3 convolutions
    predict offsets and their scope factors from both, those of the coarse map for four output pixels at once, and the
    two predictions are added. Channels are divided into groups, each with its own offsets.

    Args:
        channels: channels of the compressed maps.
        groups: groups of channels of the map that is sampled.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        features, offsets = channels + len(NEIGHBORS), 2 * groups
        self.norm_fine, self.norm_coarse = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.offset_fine = nn.Conv2d(features, offsets, 3, padding=1)
        self.offset_coarse = nn.Conv2d(features, 4 * offsets, 3, padding=1)
        self.scope_fine = nn.Conv2d(features, offsets, 3, padding=1)
        self.scope_coarse = nn.Conv2d(features, 4 * offsets, 3, padding=1)
        for conv, std in (
            (self.offset_fine, 0.001),
            (self.offset_coarse, 0.001),
            (self.scope_fine, 0.0),
            (self.scope_coarse, 0.0),
        ):
            nn.init.normal_(conv.weight, std=std)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, m: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        """Sample a map at positions predicted from two compressed maps.

        Args:
            m: (N, C, H, W).
            fine: compressed fine map (N, channels, H, W).
            coarse: compressed coarse map (N, channels, h, w).

        Returns:
            (N, C, H, W).
        """
        fine, coarse = self.norm_fine(fine), self.norm_coarse(coarse)
        fine = torch.cat([fine, similarity(fine)], dim=1)
        coarse = torch.cat([coarse, similarity(coarse)], dim=1)
        size = m.shape[-2:]
        offset = self.offset_fine(fine) + pad_or_crop(F.pixel_shuffle(self.offset_coarse(coarse), 2), size)
        scope = self.scope_fine(fine) + pad_or_crop(F.pixel_shuffle(self.scope_coarse(coarse), 2), size)
        return sample_groups(m, offset * scope.sigmoid())


class FrequencyAwareAdd(nn.Module):
    """FreqFusion's top-down step: low-pass upsampling and resampling of the coarser map, sharpening of the finer one.

    1. Both maps are compressed (1x1 convolution) to ``compressed`` channels.
    2. Initial 3x3 kernels, predicted from the compressed fine map alone, sharpen that map: m + (m - low_pass(m)).
    3. Initial 5x5 kernels, predicted from the sharpened map alone, upsample the logits that the same convolutions
       predict from the compressed coarse map. The logits of both maps are added and give the final kernels.
    4. The coarse map is upsampled with the final 5x5 kernels as in CARAFE (adaptive low-pass filter), the fine map is
       sharpened with the final 3x3 kernels (adaptive high-pass filter).
    5. The upsampled map is sampled at predicted positions (:class:`GuidedResampling`) and added.

    Written from published descriptions, not from the authors' code, which has no license. Decisions: one convolution
    for each kernel size, shared by both maps and both passes; GroupNorm of 8 groups; offsets in pixels of the finer
    map, scaled by a sigmoid that is 1/2 at the start; zero padding for CARAFE and the similarities, repeated borders
    everywhere else. The number of parameters is that of the authors' code.

    Initialized as CARAFE and DySample: kernels start as their Hamming window, positions at the pixel centers.

    Args:
        channels: width of both maps, a multiple of ``groups``.
        compressed: channels that kernels and offsets are predicted from.
        groups: groups of channels, each with its own offsets.

    Raises:
        UsageError: ``channels`` is not a multiple of ``groups``.
    """

    def __init__(self, channels: int, compressed: int = 64, groups: int = 4) -> None:
        super().__init__()
        check_groups(channels, groups, "FreqFusion")
        self.compress_fine = nn.Conv2d(channels, compressed, 1)
        self.compress_coarse = nn.Conv2d(channels, compressed, 1)
        init_convs(self)
        self.low = KernelPredictor(compressed, 5)
        self.high = KernelPredictor(compressed, 3)
        self.resample = GuidedResampling(compressed, groups)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        guide, coarse_guide = self.compress_fine(fine), self.compress_coarse(coarse)
        guide = sharpen(guide, self.high.normalize(self.high.encode(guide)))
        low, high = self.low.encode(guide), self.high.encode(guide)
        initial = self.low.normalize(low)
        low = self.low.normalize(low + upsample(self.low.encode(coarse_guide), initial))
        high = self.high.normalize(high + upsample(self.high.encode(coarse_guide), initial))
        return sharpen(fine, high) + self.resample(upsample(coarse, low), guide, coarse_guide)


class FreqFusion(StepNeck):
    """FPN whose top-down step is :class:`FrequencyAwareAdd`.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level, a multiple of 4.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.

    Raises:
        UsageError: channels of fewer than two maps, or ``out_channels`` that is not a multiple of 4.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=FrequencyAwareAdd)
