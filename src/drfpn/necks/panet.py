"""PANet: the Path Aggregation Network of its authors, with GroupNorm (Liu et al., CVPR 2018, arXiv:1803.01534)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck
from drfpn.necks.layers.convs import conv3x3, init_convs
from drfpn.necks.layers.fusion import NearestAdd
from drfpn.necks.layers.norm import group_norm
from drfpn.ops import crop_like


class AugmentationStep(nn.Module):
    """Step of PANet's bottom-up path augmentation: ``conv3x3(coarse + conv3x3(fine, stride=2))``.

    GroupNorm and ReLU follow both convolutions.

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
        """Fuse ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        down = F.relu(self.down_norm(crop_like(self.down(fine), coarse)))
        return F.relu(self.smooth_norm(self.smooth(coarse + down)))


class AugmentationPath(nn.Module):
    """PANet's bottom-up path augmentation; each step reads the finer output level.

    Args:
        steps: modules (fine, coarse) -> fused coarse map; ``steps[i]`` fuses level i with level i + 1.
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, p: list[Tensor]) -> list[Tensor]:
        """Return N2.. from P2.. (N, C, H, W), both finest first; N2 is P2."""
        n = p[:1]
        for step, coarse in zip(self.steps, p[1:], strict=True):
            n.append(step(n[-1], coarse))
        return n


class PANet(StepNeck):
    """Path Aggregation Network: FPN and a bottom-up path with GroupNorm and ReLU, as in the authors' code.

    :class:`drfpn.PAFPN` is mmdetection's form: it has no norm and no ReLU, and each of its steps reads the finer level
    before the 3x3 convolution. PANet's adaptive feature pooling, a part of its heads, is not included, and the
    convolutions of FPN have no norm.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every output level.
        extra_blocks: torchvision's ``ExtraFPNBlock``, called with (levels, backbone maps, names); ``None`` for none.

    Raises:
        UsageError: channels of fewer than two maps.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd())
        self.bottom_up = AugmentationPath([AugmentationStep(out_channels) for _ in in_channels[1:]])
