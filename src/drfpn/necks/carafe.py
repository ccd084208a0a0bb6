"""CARAFE: upsampling by kernels that are predicted from the map itself (Wang et al., ICCV 2019, arXiv:1905.02188)."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Coarser, StepNeck, check_channels, init_convs
from drfpn.necks.fpn import UpsampledAdd
from drfpn.necks.layers.extra_levels import names_added
from drfpn.ops import at_least_float32
from drfpn.utils.errors import UserError


def weighted_sum(padded: Tensor, weights: Tensor) -> Tensor:
    """Add up the K x K neighbours of each pixel, weighed.

    One shifted slice of the map after the other is weighed and added: the neighbours are never held all at once.

    Args:
        padded: (N, C, h + K - 1, w + K - 1).
        weights: (N, K * K, S, h, w), K odd, neighbours row by row; S sums of each pixel, the same for all channels.

    Returns:
        (N, C, S, h, w).
    """
    size = math.isqrt(weights.shape[1])
    height, width = weights.shape[-2:]
    padded = padded[:, :, None]
    each = weights[:, None].unbind(dim=2)  # K * K of (N, 1, S, h, w)
    total = padded.new_zeros(())
    for y in range(size):
        rows = padded[..., y : y + height, :]
        for x in range(size):
            total = torch.addcmul(total, rows[..., x : x + width], each[y * size + x])
    return total


def reassemble(m: Tensor, kernels: Tensor) -> Tensor:
    """Upsample a map by two, each new pixel as a weighted sum of those around the one that it lies in.

    Args:
        m: (N, C, h, w); zeros lie outside.
        kernels: (N, K * K, 2 h, 2 w); the arithmetic is done in their dtype.

    Returns:
        (N, C, 2 h, 2 w), in the dtype of ``m``.
    """
    border = math.isqrt(kernels.shape[1]) // 2
    weights = F.pixel_unshuffle(kernels, 2).unflatten(1, (-1, 4))  # four new pixels of each: (N, K * K, 4, h, w)
    total = weighted_sum(F.pad(m.to(kernels.dtype), (border,) * 4), weights)
    return F.pixel_shuffle(total.flatten(1, 2), 2).to(m.dtype)


class CARAFEUpsampler(nn.Module):
    """Upsamples by two: a 5x5 kernel for each new pixel, predicted from the map and applied to it (CARAFE).

    The map is reduced (1x1), a 3x3 convolution predicts 25 numbers for each of the four pixels that a pixel becomes,
    a softmax makes kernels of them. No norm, no activation.

    Starting values: the predictions are N(0, 0.001), so every kernel begins as the mean of 5x5 pixels.

    Args:
        channels: of the map.
        compressed: channels that the kernels are predicted from.
        kernel: side of a kernel, odd.
    """

    def __init__(self, channels: int, compressed: int = 64, kernel: int = 5) -> None:
        super().__init__()
        self.compress = nn.Conv2d(channels, compressed, 1)
        self.encode = nn.Conv2d(compressed, 4 * kernel**2, 3, padding=1)
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


class CARAFE(StepNeck):
    """FPN whose top-down path upsamples by CARAFE.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        layout: ``"fpn"`` is FPN with another upsampler. ``"mmdet"`` is what mmdetection measured: the levels beyond the
            backbone's are 3x3 convolutions of stride 2 on C5 that begin the top-down path and have a 3x3 convolution
            of their own; ``extra_blocks`` then only says which levels these are. Most of what it adds to FPN's
            parameters is that level, not CARAFE.

    Raises:
        UserError: an unknown layout, or ``"mmdet"`` with extra blocks of one's own.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        layout: Literal["fpn", "mmdet"] = "fpn",
    ) -> None:
        if layout not in ("fpn", "mmdet"):
            raise UserError(f"layout must be 'fpn' or 'mmdet', not {layout!r}.")
        check_channels(in_channels)
        coarser = None
        if layout == "mmdet":
            coarser, extra_blocks = strided_levels(in_channels[-1], out_channels, extra_blocks), None
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top_down=lambda channels: UpsampledAdd(CARAFEUpsampler(channels)),
            coarser=coarser,
        )


def strided_levels(in_channels: int, out_channels: int, extra_blocks: ExtraFPNBlock | None) -> Coarser:
    """Make the levels that ``extra_blocks`` would add of 3x3 convolutions of stride 2, each on the one before."""
    names = names_added(extra_blocks)
    channels = [in_channels, *(out_channels for _ in names)]
    convs = [nn.Conv2d(n, out_channels, 3, stride=2, padding=1) for n in channels[: len(names)]]
    coarser = Coarser(convs, names, instead_of=extra_blocks)
    init_convs(coarser)
    return coarser
