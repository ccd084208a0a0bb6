"""FPN and PAFPN: neighbours joined by addition.

Papers: Lin et al., Feature Pyramid Networks (CVPR 2017); Liu et al., Path Aggregation Network (CVPR 2018).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.pyramids.base import Pyramid, fit, init_convs, stretch


class NearestAdd(nn.Module):
    """FPN's top-down step: the finer map plus the coarser one, upsampled to its size by nearest neighbours."""

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return fine + F.interpolate(coarse, size=fine.shape[-2:], mode="nearest")


class UpsampledAdd(nn.Module):
    """FPN's step with an upsampler that learns.

    Where a level was rounded down when it was halved, the last row and column are repeated.

    Args:
        upsample: maps (N, C, h, w) to (N, C, 2 h, 2 w).
    """

    def __init__(self, upsample: nn.Module) -> None:
        super().__init__()
        self.upsample = upsample

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return fine + stretch(self.upsample(coarse), fine.shape[-2:])


class StrideAdd(nn.Module):
    """PAFPN's bottom-up step: the coarser map plus the finer one through a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        return coarse + fit(self.down(fine), coarse)


class FPN(Pyramid):
    """Feature Pyramid Network: lateral 1x1, nearest upsampling and addition, 3x3.

    The same numbers as ``torchvision.ops.FeaturePyramidNetwork`` with the same weights.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd())


class PAFPN(Pyramid):
    """Path Aggregation Network: FPN with a bottom-up path of strided convolutions behind it.

    Args: as :class:`FPN`.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: NearestAdd(), bottom_up=StrideAdd)
