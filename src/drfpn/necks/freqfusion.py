"""FreqFusion: maps that are joined by frequency (Chen et al., IEEE TPAMI 2024, arXiv:2408.12879)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck, init_convs, pad_or_crop
from drfpn.necks.carafe import reassemble, weighted_sum
from drfpn.necks.dysample import sample_groups
from drfpn.ops import at_least_float32
from drfpn.utils.errors import UserError

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
DILATION = 2
"""Distance of the neighbours that a pixel is compared with, pixels."""


def similarity(m: Tensor) -> Tensor:
    """Return the cosine between each pixel of ``m`` (N, C, H, W) and its eight neighbours: (N, 8, H, W), 0 outside."""
    unit = F.normalize(at_least_float32(m), dim=1, eps=1e-2)  # a pixel of a normalised map has a length near sqrt(C)
    height, width = m.shape[-2:]
    padded = F.pad(unit, (DILATION,) * 4)
    cosines = []
    for dy, dx in NEIGHBOURS:
        y, x = DILATION * (1 + dy), DILATION * (1 + dx)
        cosines.append((unit * padded[..., y : y + height, x : x + width]).sum(dim=1))
    return torch.stack(cosines, dim=1).to(m.dtype)


def blur(m: Tensor, kernels: Tensor) -> Tensor:
    """Average ``m`` (N, C, H, W) by a kernel for each pixel (N, K * K, H, W); the border repeats."""
    border = math.isqrt(kernels.shape[1]) // 2
    padded = F.pad(m.to(kernels.dtype), (border,) * 4, mode="replicate")
    return weighted_sum(padded, kernels[:, :, None])[:, :, 0].to(m.dtype)


def sharpen(m: Tensor, kernels: Tensor) -> Tensor:
    """Add to ``m`` (N, C, H, W) what blurring it takes away."""
    return m + (m - blur(m, kernels))


def upsample(m: Tensor, kernels: Tensor) -> Tensor:
    """Upsample ``m`` (N, C, h, w) by a kernel for each new pixel (N, K * K, H, W): (N, C, H, W)."""
    height, width = m.shape[-2:]
    return pad_or_crop(reassemble(m, pad_or_crop(kernels, (2 * height, 2 * width))), kernels.shape[-2:])


class Kernels(nn.Module):
    """Predicts kernels: a 3x3 convolution, a softmax, a Hamming window, a sum of one.

    Args:
        channels: of the map that they are predicted from.
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

    def normalise(self, encoded: Tensor) -> Tensor:
        """Make kernels (N, K * K, H, W) of predictions of the same shape."""
        weights = at_least_float32(encoded).softmax(dim=1) * self.window
        return weights / weights.sum(dim=1, keepdim=True)


class GuidedResampling(nn.Module):
    """Reads a map at learned positions near its own pixels, guided by what resembles its neighbours.

    Each of the two reduced maps is normalised (GroupNorm) and joined with its :func:`similarity`; 3x3 convolutions
    predict offsets and their scopes from both, those of the coarse map for four pixels at once; they are added.
    Channels are read in groups, each at positions of its own.

    Args:
        channels: of the reduced maps.
        groups: of channels of the map that is read.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        features, offsets = channels + len(NEIGHBOURS), 2 * groups
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
        """Read ``m`` (N, C, H, W), guided by the reduced maps (N, channels, H, W) and (N, channels, h, w)."""
        fine, coarse = self.norm_fine(fine), self.norm_coarse(coarse)
        fine = torch.cat([fine, similarity(fine)], dim=1)
        coarse = torch.cat([coarse, similarity(coarse)], dim=1)
        size = m.shape[-2:]
        offset = self.offset_fine(fine) + pad_or_crop(F.pixel_shuffle(self.offset_coarse(coarse), 2), size)
        scope = self.scope_fine(fine) + pad_or_crop(F.pixel_shuffle(self.scope_coarse(coarse), 2), size)
        return sample_groups(m, offset * scope.sigmoid())


class FrequencyAwareAdd(nn.Module):
    """Adds a coarser map to a finer one: smoothed, moved, and the finer one sharpened.

    1. Both maps are reduced (1x1) to ``compressed`` channels.
    2. A first 3x3 kernel, predicted from the reduced fine map alone, sharpens that map: m + (m - blur(m)).
    3. A first 5x5 kernel, predicted from the sharpened one alone, upsamples what the same convolutions predict from
       the reduced coarse map. Both predictions are added: they give the kernels that follow.
    4. The coarse map is upsampled by its 5x5 kernels as CARAFE does (low-pass), the fine one sharpened by its 3x3
       kernels (high-pass).
    5. The upsampled map is read at moved positions (:class:`GuidedResampling`) and added.

    Written from published descriptions, not from the authors' code, which has no licence. Chosen here: one
    convolution for each kind of kernel, shared by both maps and both passes; GroupNorm of 8 groups; offsets in pixels
    of the finer map, scaled by a sigmoid, 1/2 at the start; beyond a map zeros lie for CARAFE and the similarities,
    while the border repeats for all else. The number of parameters is the authors'.

    Starting values: as those of CARAFE and DySample: kernels begin as their Hamming window, positions at the pixels.

    Args:
        channels: width of both maps, a multiple of ``groups``.
        compressed: channels that all is predicted from.
        groups: of channels that move together.

    Raises:
        UserError: channels that cannot be grouped.
    """

    def __init__(self, channels: int, compressed: int = 64, groups: int = 4) -> None:
        super().__init__()
        if channels % groups:
            raise UserError(f"FreqFusion moves {groups} groups of channels, of which {channels} is no multiple.")
        self.compress_fine = nn.Conv2d(channels, compressed, 1)
        self.compress_coarse = nn.Conv2d(channels, compressed, 1)
        init_convs(self)
        self.low = Kernels(compressed, 5)
        self.high = Kernels(compressed, 3)
        self.resample = GuidedResampling(compressed, groups)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        guide, coarse_guide = self.compress_fine(fine), self.compress_coarse(coarse)
        guide = sharpen(guide, self.high.normalise(self.high.encode(guide)))
        low, high = self.low.encode(guide), self.high.encode(guide)
        first = self.low.normalise(low)
        low = self.low.normalise(low + upsample(self.low.encode(coarse_guide), first))
        high = self.high.normalise(high + upsample(self.high.encode(coarse_guide), first))
        return sharpen(fine, high) + self.resample(upsample(coarse, low), guide, coarse_guide)


class FreqFusion(StepNeck):
    """FPN whose levels are joined by frequency; see :class:`FrequencyAwareAdd`.

    Args: as :class:`drfpn.FPN`; ``out_channels`` must be a multiple of 4.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=FrequencyAwareAdd)
