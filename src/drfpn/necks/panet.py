"""PANet's pyramid as its paper and its authors' code have it (Liu et al., CVPR 2018, arXiv:1803.01534)."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck, conv3x3, crop_like, init_convs
from drfpn.necks.fpn import NearestAdd


def group_norm(channels: int) -> nn.GroupNorm:
    """Make a GroupNorm of groups of 8 channels, which are 32 groups of 256; of larger ones where 8 does not divide."""
    return nn.GroupNorm(math.gcd(max(1, channels // 8), channels), channels)


class AugmentationStep(nn.Module):
    """PANet's bottom-up step: the finer map through a 3x3 of stride 2, plus the coarser one, through another 3x3.

    GroupNorm and ReLU follow both.

    Args:
        channels: width of both maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.down_norm = group_norm(channels)
        self.smooth = conv3x3(channels)
        self.smooth_norm = group_norm(channels)
        init_convs(self)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        down = F.relu(self.down_norm(crop_like(self.down(fine), coarse)))
        return F.relu(self.smooth_norm(self.smooth(coarse + down)))


class AugmentationPath(nn.Module):
    """Hands content from the finest level to the coarsest; each step sees the finer level as it leaves.

    Args:
        steps: ``steps[i]`` joins level i with i + 1.
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, p: list[Tensor]) -> list[Tensor]:
        """Return N2.. from P2..; the finest stays as it is."""
        n = p[:1]
        for step, coarse in zip(self.steps, p[1:], strict=True):
            n.append(step(n[-1], coarse))
        return n


class PANet(StepNeck):
    """Path Aggregation Network with GroupNorm and ReLU, whose refined levels go on upwards.

    :class:`drfpn.PAFPN`, mmdetection's form, has neither and hands on levels before their 3x3. PANet's heads, which
    pool each region from all levels, are not part of it, and FPN's own convolutions have no norm here.

    Args: as :class:`drfpn.FPN`.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd())
        self.bottom_up = AugmentationPath([AugmentationStep(out_channels) for _ in in_channels[1:]])
