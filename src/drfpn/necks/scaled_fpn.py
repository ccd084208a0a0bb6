"""ScaledFPN: FPN with learned fusion factors (Gong et al., WACV 2021, arXiv:2011.02298)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from drfpn.necks.base import StepNeck


class ScaledAdd(nn.Module):
    """FPN's top-down step with a learned factor: the finer map plus ``scale`` times the upsampled coarser one.

    The factor is initialized with 1, so that it starts as FPN's step, bit for bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Fuse ``coarse`` (N, C, h, w) into ``fine`` (N, C, H, W)."""
        return fine + F.interpolate(self.scale * coarse, size=fine.shape[-2:], mode="nearest")


class ScaledFPN(StepNeck):
    """FPN with one learned factor for each step of the top-down path, :class:`ScaledAdd`.

    The fusion factor of Gong et al., Effective Fusion Factor in FPN for Tiny Object Detection, which they compute from
    the data set, is a parameter here.

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
        super().__init__(in_channels, out_channels, extra_blocks, top_down=lambda _: ScaledAdd())
