"""RefinedFPN: FPN that convolves the coarser map and weights it per pixel and channel group before the addition.

A neck of this project: a cheaper FaPN without offsets. The convolution runs at the size of the coarser map, and one
weight applies to all sampling points of a channel group.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.convs import init_convs, init_zeros
from drfpn.necks.layers.groups import check_groups


class RefinedAdd(nn.Module):
    r"""Top-down step: adds the convolved coarser map with predicted weights for each pixel and group of channels.

    .. math::
        f + m \odot \mathrm{up}(\mathrm{ReLU}(\mathrm{conv}_{3 \times 3}(c))), \quad
        m = \sigma(\mathrm{weight}([\mathrm{project}_f(f), \mathrm{up}(\mathrm{project}_c(c))]))

    ``up`` is nearest-neighbor upsampling; the projections are 1x1 convolutions, ``weight`` is a 3x3 convolution that is
    initialized with zero, so that all weights m start at 1/2.

    Args:
        channels: width of both maps, a multiple of ``groups``.
        groups: number of groups of channels, each with its own weights.

    Raises:
        UsageError: ``channels`` is not a multiple of ``groups``.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        check_groups(channels, groups, "RefinedAdd")
        hidden = channels // 4
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)
        self.project_fine = nn.Conv2d(channels, hidden, 1, bias=False)
        self.project_coarse = nn.Conv2d(channels, hidden, 1, bias=False)
        self.weight = nn.Conv2d(2 * hidden, groups, 3, padding=1)
        init_convs(self)
        init_zeros(self.weight)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        size = fine.shape[-2:]
        projected = F.interpolate(self.project_coarse(coarse), size=size, mode="nearest")
        weight = self.weight(torch.cat([self.project_fine(fine), projected], dim=1)).sigmoid()
        refined = F.interpolate(F.relu(self.refine(coarse)), size=size, mode="nearest")
        return fine + refined * weight.repeat_interleave(refined.shape[1] // weight.shape[1], dim=1)


class RefinedFPN(StepNeck):
    """FPN whose top-down step is :class:`RefinedAdd`.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level, a multiple of 8.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.

    Raises:
        UsageError: channels of fewer than two maps, or ``out_channels`` that is not a multiple of 8.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=RefinedAdd)
