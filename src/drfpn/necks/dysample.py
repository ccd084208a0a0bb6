"""DySample: upsampling by sampling at learned positions (Liu et al., ICCV 2023, arXiv:2308.15085)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.fpn import UpsampledAdd
from drfpn.ops import at_least_float32, pixel_grid, sample
from drfpn.utils.errors import UserError


def sample_groups(m: Tensor, offset: Tensor) -> Tensor:
    """Read groups of channels bilinearly, each at positions of its own; no offset is bilinear resizing.

    Args:
        m: (N, C, h, w); the border repeats.
        offset: (N, 2 G, H, W), (x, y) of each of G groups, in pixels of ``m``; the arithmetic is done in float32.

    Returns:
        (N, C, H, W).
    """
    groups = offset.shape[1] // 2
    height, width = m.shape[-2:]
    moved = at_least_float32(offset).unflatten(1, (groups, 2)).flatten(0, 1)  # (N G, 2, H, W)
    shift = torch.stack([moved[:, 0] / width, moved[:, 1] / height], dim=-1) * 2
    rows, columns = offset.shape[-2:]
    positions = pixel_grid(rows, columns, moved) + shift
    read = sample(m.unflatten(1, (groups, -1)).flatten(0, 1), positions)
    return read.unflatten(0, (-1, groups)).flatten(1, 2)


class StaticScope(nn.Module):
    """How far a position may move for each unit of the offset: a quarter of a pixel."""

    def forward(self, m: Tensor) -> float:
        """Return 1 / 4."""
        return 0.25


class DynamicScope(nn.Module):
    """The same predicted from the map, between nothing and half a pixel; begins at a quarter.

    Args:
        channels: of the map.
        offsets: numbers that are scaled, of each pixel.
    """

    def __init__(self, channels: int, offsets: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, offsets, 1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, offsets, h, w)."""
        return self.conv(m).sigmoid() / 2


class DySampleUpsampler(nn.Module):
    r"""Upsamples by two: each new pixel reads the map bilinearly at a position of its own (DySample, style "lp").

    .. math::
        \mathrm{sample}(m, g + s \odot \mathrm{conv}(m))

    Convention: g are the positions of bilinear upsampling (``align_corners=False``, the border repeats), offsets are
    in pixels of the map, channels are read in ``groups``, each at positions of its own.

    Starting values: the convolution's weights are N(0, 0.001), so it begins as bilinear upsampling all but exactly.

    Args:
        channels: of the map, a multiple of ``groups``.
        groups: of channels.
        dynamic_scope: whether the scale s is predicted from the map (DySample+) or 1 / 4.

    Raises:
        UserError: channels that cannot be grouped.
    """

    def __init__(self, channels: int, groups: int = 4, *, dynamic_scope: bool = False) -> None:
        super().__init__()
        if channels % groups:
            raise UserError(f"DySample reads {groups} groups of channels, of which {channels} is no multiple.")
        offsets = 2 * groups * 4  # (x, y) of each group for the four pixels that a pixel becomes
        self.offset = nn.Conv2d(channels, offsets, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]  # a bias is typed as optional
        self.scope: nn.Module = DynamicScope(channels, offsets) if dynamic_scope else StaticScope()

    def forward(self, m: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C, 2 h, 2 w)."""
        return sample_groups(m, F.pixel_shuffle(self.offset(m) * self.scope(m), 2))


class DySample(StepNeck):
    """FPN whose top-down path upsamples by DySample.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        groups: of channels that are read at positions of their own.
        dynamic_scope: whether how far positions move is predicted too (DySample+).

    Raises:
        UserError: ``out_channels`` that is no multiple of ``groups``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        groups: int = 4,
        dynamic_scope: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top_down=lambda n: UpsampledAdd(DySampleUpsampler(n, groups, dynamic_scope=dynamic_scope)),
        )
