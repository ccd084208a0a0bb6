"""RefinedFPN: the coarser map passes a convolution and is weighed at each pixel before it is added.

A pyramid of this project: what FaPN gains without offsets, for less. The convolution runs at the size of the coarser
map, and one weight stands for all points of a group of channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck, init_convs, init_zeros
from drfpn.utils.errors import UserError


class RefinedAdd(nn.Module):
    r"""Adds a refined coarser map to a finer one, weighed at each pixel and in groups of channels.

    .. math::
        f + m \odot \mathrm{up}(\mathrm{ReLU}(\mathrm{conv}_{3 \times 3}(c))), \quad
        m = \sigma(\mathrm{weight}([\mathrm{project}_f(f), \mathrm{up}(\mathrm{project}_c(c))]))

    ``up`` is nearest, the projections are 1x1, the weight 3x3. Starting values: all weights m begin at a half.

    Args:
        channels: width of both maps, a multiple of ``groups``.
        groups: of channels that share a weight.

    Raises:
        UserError: channels that cannot be grouped.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        if channels % groups:
            raise UserError(f"RefinedAdd weighs {groups} groups of channels, of which {channels} is no multiple.")
        hidden = channels // 4
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)
        self.project_fine = nn.Conv2d(channels, hidden, 1, bias=False)
        self.project_coarse = nn.Conv2d(channels, hidden, 1, bias=False)
        self.weight = nn.Conv2d(2 * hidden, groups, 3, padding=1)
        init_convs(self)
        init_zeros(self.weight)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        size = fine.shape[-2:]
        projected = F.interpolate(self.project_coarse(coarse), size=size, mode="nearest")
        weight = self.weight(torch.cat([self.project_fine(fine), projected], dim=1)).sigmoid()
        refined = F.interpolate(F.relu(self.refine(coarse)), size=size, mode="nearest")
        return fine + refined * weight.repeat_interleave(refined.shape[1] // weight.shape[1], dim=1)


class RefinedFPN(StepNeck):
    """FPN whose top-down step is :class:`RefinedAdd`.

    Args: as :class:`drfpn.FPN`; ``out_channels`` must be a multiple of 8.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=RefinedAdd)
