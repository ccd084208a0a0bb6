"""FaPN: Feature-aligned Pyramid Network (Huang et al., ICCV 2021, arXiv:2108.07058)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import DeformConv2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import Neck, TopDownPath, check_channels
from drfpn.necks.layers.convs import conv3x3, init_convs, init_zeros
from drfpn.necks.layers.dcn import predicted_deform_conv
from drfpn.necks.layers.groups import check_groups
from drfpn.ops import adaptive_average_pool, at_least_float32

KERNEL_POINTS = 9
"""Number of sampling points of a 3x3 convolution."""


class FeatureSelection(nn.Module):
    r"""Feature selection module (FSM): gates the channels of a backbone's map by their averages, then reduces them.

    .. math::
        \mathrm{reduce}(c + \sigma(\mathrm{gate}(\mathrm{GAP}(c))) \odot c)

    Both layers are 1x1 convolutions without bias, norm or activation.

    Args:
        in_channels: channels of the backbone's map.
        out_channels: channels of the output.
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
    r"""Feature alignment module (FAM), FaPN's top-down step: adds the coarser map, aligned by a deformable convolution.

    .. math::
        f + \mathrm{ReLU}(\mathrm{DCN}(u, \mathrm{offset}(\mathrm{guide}([f, 2 u])))), \quad u = \mathrm{up}(c)

    Convention: ``up`` is bilinear; DCN is a modulated deformable 3x3 convolution (DCNv2) whose channels are divided
    into groups, each with its own nine sampling points; offsets are (y, x), predicted in tenths of a pixel of the
    finer map. The authors predict pixels: with that, offsets reached 400 pixels after the first epoch of a small
    detector.

    Offsets are initialized with zero and the modulation weights of all points with 1/2, sigmoid(0).

    Args:
        channels: width of both maps, a multiple of ``groups``.
        groups: number of groups of channels.

    Raises:
        UsageError: ``channels`` is not a multiple of ``groups``.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        check_groups(channels, groups, "FaPN")
        self.split_sizes = (2 * groups * KERNEL_POINTS, groups * KERNEL_POINTS)
        self.guide = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.offset = nn.Conv2d(channels, sum(self.split_sizes), 3, padding=1)  # offsets and modulation weights
        self.align = DeformConv2d(channels, channels, 3, padding=1)
        init_convs(self.guide)
        nn.init.kaiming_uniform_(self.align.weight, a=1)
        for parameter in (self.align.bias, self.offset.weight, self.offset.bias):
            nn.init.zeros_(parameter)  # type: ignore[arg-type]  # a bias is typed as optional

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        upsampled = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        prediction = at_least_float32(self.offset(self.guide(torch.cat([fine, 2 * upsampled], dim=1))))
        offset, weight = prediction.split(self.split_sizes, dim=1)
        aligned = predicted_deform_conv(self.align, upsampled.to(prediction.dtype), offset, weight.sigmoid())
        return fine + F.relu(aligned).to(fine.dtype)


class UnalignedAdd(nn.Module):
    r"""FAM with all offsets at zero: a 3x3 convolution of the coarser map with modulation weights for each pixel.

    .. math::
        f + \mathrm{ReLU}(\mathrm{conv}_{3 \times 3}(u, \sigma(\mathrm{weight}(\mathrm{guide}([f, 2 u])))))

    It is equal to a :class:`FeatureAlignment` whose offsets are zero, and so to one at its initialization.

    Args:
        channels: width of both maps, a multiple of ``groups``.
        groups: number of groups of channels.

    Raises:
        UsageError: ``channels`` is not a multiple of ``groups``.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        check_groups(channels, groups, "FaPN")
        self.groups = groups
        self.guide = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.weight = nn.Conv2d(channels, groups * KERNEL_POINTS, 3, padding=1)
        self.align = nn.Conv2d(channels, channels, 3, padding=1)
        init_convs(self.guide)
        init_convs(self.align)
        init_zeros(self.weight)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        upsampled = F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")
        weight = self.weight(self.guide(torch.cat([fine, 2 * upsampled], dim=1))).sigmoid()
        points = F.unfold(upsampled, 3, padding=1).unflatten(1, (self.groups, -1, KERNEL_POINTS))
        modulated = points * weight.flatten(2).unflatten(1, (-1, 1, KERNEL_POINTS))
        convolved = self.align.weight.flatten(1) @ modulated.flatten(1, 3)
        convolved = convolved.unflatten(2, fine.shape[-2:]) + self.align.bias[:, None, None]  # type: ignore[index]
        return fine + F.relu(convolved)


class FaPN(Neck):
    """Feature-aligned Pyramid Network: FSM as laterals, FAM as the step of the top-down path.

    As in the authors' code, the coarsest level is a 1x1 convolution of C5 and has no 3x3 convolution.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level, a multiple of 8.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.
        offsets: whether sampling points move; ``False`` keeps them on the grid (:class:`UnalignedAdd`).

    Raises:
        UsageError: channels of fewer than two maps, or ``out_channels`` that is not a multiple of 8.
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
            top_down=TopDownPath([(FeatureAlignment if offsets else UnalignedAdd)(out_channels) for _ in finer]),
            extra_blocks=extra_blocks,
        )
