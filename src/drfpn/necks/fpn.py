"""FPN and PAFPN: neighbours joined by addition.

Papers: Lin et al., Feature Pyramid Networks (CVPR 2017); Liu et al., Path Aggregation Network (CVPR 2018).
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import ResidualConv, StepNeck, conv3x3, crop_like, init_convs, pad_or_crop


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
        return fine + pad_or_crop(self.upsample(coarse), fine.shape[-2:])


class StrideAdd(nn.Module):
    """PAFPN's bottom-up step: the coarser map plus the finer one through a 3x3 convolution of stride 2.

    Args:
        channels: width of both maps.
        share: of Kaiming's standard deviation, what the convolution begins with.
    """

    def __init__(self, channels: int, share: float = 1.0) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        init_convs(self)
        self.down.weight.data.mul_(share)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``fine`` (N, C, H, W) into ``coarse`` (N, C, h, w)."""
        return coarse + crop_like(self.down(fine), coarse)


class FPN(StepNeck):
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


class PAFPN(StepNeck):
    """Path Aggregation Network: FPN with a bottom-up path of strided convolutions behind it.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        out_channels: channels of every level that leaves.
        extra_blocks: torchvision's ``ExtraFPNBlock``.
        residual: put a shortcut around the 3x3 convolution behind each step and begin it and the strided convolutions
            at zero, so that the pyramid begins as an FPN with the same lateral and 3x3 convolutions, bit for bit.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        *,
        residual: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            extra_blocks,
            top_down=lambda _: NearestAdd(),
            bottom_up=partial(StrideAdd, share=0.0) if residual else StrideAdd,
            smooth_up=ResidualConv if residual else conv3x3,
        )


class ScaledAdd(nn.Module):
    """FPN's top-down step with one learned number: the finer map plus ``scale`` times the upsampled coarser one.

    The fusion factor of Gong et al., Effective Fusion Factor in FPN for Tiny Object Detection (WACV 2021), learned. It
    begins at 1, as FPN's step, bit for bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Merge ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return fine + F.interpolate(self.scale * coarse, size=fine.shape[-2:], mode="nearest")


class ScaledFPN(StepNeck):
    """FPN with a learned number on each step of the top-down path, :class:`ScaledAdd`.

    Args: as :class:`FPN`.
    """

    def __init__(
        self, in_channels: Sequence[int], out_channels: int = 256, extra_blocks: ExtraFPNBlock | None = None
    ) -> None:
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: ScaledAdd())
