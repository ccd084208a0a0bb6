"""FaPN: levels that are selected by channel and aligned before they are joined (Huang et al., ICCV 2021)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Neck, TopDownPath, check_channels, conv3x3, init_convs, init_zeros
from drfpn.necks.fpn_dcn import convolve
from drfpn.ops import adaptive_average_pool, at_least_float32
from drfpn.utils.errors import UserError

POINTS = 9
"""That a 3x3 convolution reads."""


def check_groups(channels: int, groups: int) -> None:
    """Raise a ``UserError`` where ``channels`` cannot be read in ``groups``."""
    if channels % groups:
        raise UserError(f"FaPN reads {groups} groups of channels, of which {channels} is no multiple.")


class FeatureSelection(nn.Module):
    r"""Weighs the channels of a backbone's map by their averages, then reduces it (FSM).

    .. math::
        \mathrm{reduce}(c + \sigma(\mathrm{gate}(\mathrm{GAP}(c))) \odot c)

    Both are 1x1 convolutions without bias, norm or activation.

    Args:
        in_channels: of the map.
        out_channels: of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(in_channels, in_channels, 1, bias=False)
        self.reduce = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        init_convs(self)

    def forward(self, c: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        return self.reduce(c + c * self.gate(adaptive_average_pool(c, 1)).sigmoid())


class FeatureAlignment(nn.Module):
    r"""Adds a coarser map to a finer one, read where both say (FAM).

    .. math::
        f + \mathrm{ReLU}(\mathrm{DCN}(u, \mathrm{offset}(\mathrm{guide}([f, 2 u])))), \quad u = \mathrm{up}(c)

    Convention: ``up`` is bilinear; DCN is a modulated deformable 3x3 convolution (DCNv2) whose channels are read in
    groups, each at nine points of its own; offsets are (y, x), predicted in tenths of a pixel of the finer map,
    where the authors' are in pixels: these were 400 pixels away after the first epoch of a small detector.

    Starting values: offsets begin at zero and the weights of all points at a half, sigmoid(0).

    Args:
        channels: width of both maps, a multiple of ``groups``.
        groups: of channels.

    Raises:
        UserError: channels that cannot be grouped.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        check_groups(channels, groups)
        self.counts = (2 * groups * POINTS, groups * POINTS)
        self.guide = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.offset = nn.Conv2d(channels, sum(self.counts), 3, padding=1)  # and the weights of the points
        self.align = DeformConv2d(channels, channels, 3, padding=1)
        init_convs(self.guide)
        nn.init.kaiming_uniform_(self.align.weight, a=1)
        for zero in (self.align.bias, self.offset.weight, self.offset.bias):
            nn.init.zeros_(zero)  # type: ignore[arg-type]  # a bias is typed as optional

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        upsampled = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        found = at_least_float32(self.offset(self.guide(torch.cat([fine, 2 * upsampled], dim=1))))
        offset, weight = found.split(self.counts, dim=1)
        aligned = convolve(self.align, upsampled.to(found.dtype), offset, weight.sigmoid())
        return fine + F.relu(aligned).to(fine.dtype)


class UnalignedAddition(nn.Module):
    r"""FAM with all offsets at zero: what is left is a 3x3 convolution whose points are weighed at each pixel.

    .. math::
        f + \mathrm{ReLU}(\mathrm{conv}_{3 \times 3}(u, \sigma(\mathrm{weight}(\mathrm{guide}([f, 2 u])))))

    Equals :class:`FeatureAlignment` whose offsets are zero, and begins as it does.

    Args:
        channels: width of both maps, a multiple of ``groups``.
        groups: of channels.

    Raises:
        UserError: channels that cannot be grouped.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        check_groups(channels, groups)
        self.groups = groups
        self.guide = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.weight = nn.Conv2d(channels, groups * POINTS, 3, padding=1)
        self.align = nn.Conv2d(channels, channels, 3, padding=1)
        init_convs(self.guide)
        init_convs(self.align)
        init_zeros(self.weight)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        upsampled = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        weight = self.weight(self.guide(torch.cat([fine, 2 * upsampled], dim=1))).sigmoid()
        points = F.unfold(upsampled, 3, padding=1).unflatten(1, (self.groups, -1, POINTS))
        weighed = points * weight.flatten(2).unflatten(1, (-1, 1, POINTS))
        aligned = self.align.weight.flatten(1) @ weighed.flatten(1, 3)
        aligned = aligned.unflatten(2, fine.shape[-2:]) + self.align.bias[:, None, None]  # type: ignore[index]
        return fine + F.relu(aligned)


class FaPN(Neck):
    """Feature-aligned Pyramid Network: FSM on each lateral, FAM on the way down.

    As in its authors' code the coarsest level is a plain 1x1 convolution of C5 and has no 3x3 behind it.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves, a multiple of 8.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        offsets: whether points move; ``False`` keeps them where a plain convolution reads (:class:`UnalignedAddition`).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        offsets: bool = True,
    ) -> None:
        check_channels(in_channels)
        finer = in_channels[:-1]
        top = nn.Conv2d(in_channels[-1], out_channels, 1)
        init_convs(top)
        super().__init__(
            in_channels,
            out_channels,
            lateral=[*(FeatureSelection(channels, out_channels) for channels in finer), top],
            smooth=[*(conv3x3(out_channels) for _ in finer), nn.Identity()],
            top_down=TopDownPath([(FeatureAlignment if offsets else UnalignedAddition)(out_channels) for _ in finer]),
            extra_blocks=extra_blocks,
        )
